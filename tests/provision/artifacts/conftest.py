from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from provision.artifacts.engine import variants
from provision.artifacts.engine.wheel import EngineWheel
from provision.artifacts.host_kind import HostKind
from provision.artifacts.runtime_source import RuntimeSource
from provision.local.cache import Cache

BOOKWORM = HostKind("x86_64", (3, 11), (2, 36))
EVERY_VARIANT = variants.built_for("x86_64", variants.ALL)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def make_wheel(tmp_path: Path) -> Callable[..., Path]:
    def make(
        name: str,
        version: str = "1.0",
        tag: str = "py3-none-any",
        files: Mapping[str, bytes] | None = None,
        folder: Path = tmp_path / "index",
    ) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        base = f"{name.replace('-', '_')}-{version}"
        wheel = folder / f"{base}-{tag}.whl"
        info = f"{base}.dist-info"
        content = {
            **(files or {f"{name}/__init__.py": b"VALUE = 1\n" * 50}),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode(),
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
            f"{info}/RECORD": b"",
        }
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, data in content.items():
                archive.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
        return wheel

    return make


@pytest.fixture
def lock_line() -> Callable[..., str]:
    def line(*files: Path, name: str, version: str = "1.0", marker: str = "") -> str:
        hashes = "".join(
            f" \\\n    --hash=sha256:{hashlib.sha256(f.read_bytes()).hexdigest()}" for f in files
        )
        return f"{name}=={version}{' ; ' + marker if marker else ''}{hashes}\n"

    return line


@pytest.fixture
def only_local_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return a folder whose files are all that pip finds."""
    folder = tmp_path / "index"
    folder.mkdir(exist_ok=True)
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def engine_sdist() -> Callable[[Path], Path]:
    """Return a source archive that would need cmake if pip called its build system."""

    def make(folder: Path) -> Path:
        path = folder / "llama_cpp_python-9.9.tar.gz"
        project = (
            b'[build-system]\nrequires = ["scikit-build-core"]\nbuild-backend = "scikit_build_core.build"\n'
            b'[project]\nname = "llama_cpp_python"\nversion = "9.9"\n'
        )
        with tarfile.open(path, "w:gz") as archive:
            for name, data in (("pyproject.toml", project), ("PKG-INFO", b"Metadata-Version: 2.1\n")):
                info = tarfile.TarInfo(f"llama_cpp_python-9.9/{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    return make


@pytest.fixture
def engine(make_wheel: Callable[..., Path], tmp_path: Path) -> EngineWheel:
    library = b"\x7fELF libllama" * 1000
    wheel = make_wheel(
        "llama-cpp-python",
        "9.9",
        "py3-none-linux_x86_64",
        {
            "llama_cpp/__init__.py": b"",
            "llama_cpp/lib/libllama.so": library,
            "llama_cpp/lib/libllama.so.0": library,
            "llama_cpp/lib/libllama.so.0.5.0": library,
            **{f"bin/libggml-cpu-{name}.so": f"\x7fELF {name}".encode() * 100 for name in EVERY_VARIANT},
            "lib/libllama.so": library,
            "include/llama.h": b"// header",
        },
        tmp_path / "engine",
    )
    return EngineWheel(wheel, hashlib.sha256(wheel.read_bytes()).hexdigest(), BOOKWORM)


@pytest.fixture
def source(
    tmp_path: Path, make_wheel: Callable[..., Path], lock_line: Callable[..., str], only_local_index: Path
) -> RuntimeSource:
    """Return a runtime of four files that needs two packages, one of them on old Python only."""
    folder = tmp_path / "runtime"
    for path, text in {
        "clawd_runtime/__init__.py": "",
        "clawd_runtime/bot/service/main.py": "print('bot')\n",
        "clawd_runtime/engine/main.py": "print('engine')\n",
        "clawd_runtime/engine/__pycache__/main.cpython-311.pyc": "x",
        "pyproject.toml": '[project]\nname = "clawd-runtime"\nversion = "0.9"\n',
        "requirements.lock": "# written by hand\n"
        + lock_line(make_wheel("alpha"), name="alpha")
        + lock_line(make_wheel("beta"), name="beta", marker="python_full_version < '3.12'")
        + f"llama-cpp-python==9.9 --hash=sha256:{'0' * 64}\n",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return RuntimeSource(folder)


@pytest.fixture
def about() -> Callable[[Path], dict[str, object]]:
    """Read release.json from an archive."""

    def read(archive: Path) -> dict[str, object]:
        with tarfile.open(archive) as opened:
            member = opened.extractfile("release.json")
            assert member is not None
            return dict(json.load(member))

    return read
