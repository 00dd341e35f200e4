from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from provision.artifacts import archive
from provision.artifacts.engine import variants
from provision.artifacts.engine.wheel import EngineWheel
from provision.artifacts.host_kind import HostKind
from provision.artifacts.release import needed_at_run_time, release_for
from provision.artifacts.runtime_source import RuntimeSource
from provision.local.cache import Cache

BOOKWORM = HostKind("x86_64", (3, 11), (2, 36))
TRIXIE = HostKind("x86_64", (3, 13), (2, 41))


def test_release_contains_runtime_dependencies_and_its_description(
    source: RuntimeSource, engine: EngineWheel, cache: Cache, about: Callable[[Path], dict[str, object]]
) -> None:
    release = release_for(BOOKWORM, engine, cache, source=source)
    with tarfile.open(release.archive.archive) as opened:
        members = {m.name.removeprefix("site-packages/"): m for m in opened if not m.isdir()}
        run = opened.extractfile("site-packages/clawd_runtime/engine/main.py")
        assert run is not None
        assert run.read() == b"print('engine')\n"
    assert {name for name in members if "dist-info" not in name} == {
        "release.json", "clawd_runtime/__init__.py",
        "clawd_runtime/bot/service/main.py", "clawd_runtime/engine/main.py", "alpha/__init__.py",
        "beta/__init__.py", "llama_cpp/__init__.py",
        *(f"bin/libggml-cpu-{name}.so" for name in variants.built_for("x86_64", variants.ALL)),
        "llama_cpp/lib/libllama.so", "llama_cpp/lib/libllama.so.0", "llama_cpp/lib/libllama.so.0.5.0",
    }  # fmt: skip
    assert members["llama_cpp/lib/libllama.so"].linkname == "libllama.so.0.5.0"
    assert about(release.archive.archive)["packages"] == {
        "alpha": "1.0", "beta": "1.0", "llama-cpp-python": "9.9"
    }  # fmt: skip
    assert release.kept < release.came
    assert release.archive.size == release.archive.archive.stat().st_size


def test_same_inputs_give_the_same_release_anywhere(
    source: RuntimeSource, engine: EngineWheel, tmp_path: Path
) -> None:
    first = release_for(BOOKWORM, engine, Cache(tmp_path / "one"), source=source)
    moved = RuntimeSource(tmp_path / "elsewhere")
    shutil.copytree(source.folder, moved.folder, copy_function=shutil.copy)
    for path in moved.folder.rglob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    second = release_for(BOOKWORM, engine, Cache(tmp_path / "two"), source=moved)
    assert first.archive.archive != second.archive.archive
    assert first.archive == replace(second.archive, archive=first.archive.archive)


def test_laptops_with_other_compressors_name_the_release_the_same(
    source: RuntimeSource, engine: EngineWheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = release_for(BOOKWORM, engine, Cache(tmp_path / "one"), source=source).archive
    monkeypatch.setattr(archive, "_LEVEL", 1)
    second = release_for(BOOKWORM, engine, Cache(tmp_path / "two"), source=source).archive
    assert first.sha256 != second.sha256
    assert (first.id, first.manifest_digest) == (second.id, second.manifest_digest)
    assert first.engine_digest == second.engine_digest


def test_another_content_or_mode_of_a_file_is_another_release(
    source: RuntimeSource, make_wheel: Callable[..., Path], engine: EngineWheel, tmp_path: Path
) -> None:
    def made(content: bytes, mode: int, name: str = "x.py") -> str:
        path = tmp_path / "again" / engine.path.name
        path.parent.mkdir(exist_ok=True)
        shutil.copy(engine.path, path)
        with zipfile.ZipFile(path, "a") as wheel:
            info = zipfile.ZipInfo(f"llama_cpp/{name}")
            info.external_attr = mode << 16
            wheel.writestr(info, content)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        changed = replace(engine, path=path, sha256=digest)
        return release_for(BOOKWORM, changed, Cache(tmp_path / "cache"), source=source).archive.id

    first = made(b"1", 0o644)
    assert made(b"1", 0o600) == first
    others = {made(b"2", 0o644), made(b"1", 0o755), made(b"1", 0o644, "y.py")}
    assert len(others | {first}) == 4


def test_hosts_with_an_engine_for_all_processors_share_the_release(
    source: RuntimeSource, engine: EngineWheel, cache: Cache
) -> None:
    here = replace(BOOKWORM, cpu="zen4")
    everywhere = release_for(BOOKWORM, engine, cache, source=source)
    assert release_for(here, engine, cache, source=source) == everywhere
    for_one = replace(engine, built_on=here)
    assert release_for(here, for_one, cache, source=source).archive.id != everywhere.archive.id


def test_release_is_built_once_and_again_when_damaged(
    source: RuntimeSource, engine: EngineWheel, cache: Cache, only_local_index: Path
) -> None:
    first = release_for(BOOKWORM, engine, cache, source=source)
    for file in only_local_index.iterdir():
        file.unlink()
    messages: list[str] = []

    written = first.archive.archive.stat()
    again = release_for(BOOKWORM, engine, cache, source=source, progress=lambda m, f=None: messages.append(m))
    assert again == first
    assert messages == []
    assert (again.archive.archive.stat().st_ino, again.archive.archive.stat().st_mtime_ns) == (
        written.st_ino, written.st_mtime_ns,
    )  # fmt: skip
    first.archive.archive.write_bytes(b"short")
    assert release_for(BOOKWORM, engine, cache, source=source) == first
    assert first.archive.archive.stat().st_size == first.archive.size


def test_engine_digest_changes_only_with_files_of_the_engine(
    source: RuntimeSource, engine: EngineWheel, cache: Cache
) -> None:
    first = release_for(BOOKWORM, engine, cache, source=source).archive
    (source.folder / "clawd_runtime/bot/service/main.py").write_text("print('better')\n")
    bot = release_for(BOOKWORM, engine, cache, source=source).archive
    assert bot.id != first.id
    assert bot.engine_digest == first.engine_digest
    (source.folder / "clawd_runtime/engine/main.py").write_text("print('faster')\n")
    assert release_for(BOOKWORM, engine, cache, source=source).archive.engine_digest != first.engine_digest
    again = (source.folder / "requirements.lock").read_text().replace("beta==", "# beta==")
    (source.folder / "clawd_runtime/engine/main.py").write_text("print('engine')\n")
    assert release_for(BOOKWORM, engine, cache, source=source).archive.engine_digest == first.engine_digest
    (source.folder / "requirements.lock").write_text(re.sub(r"# beta==.*?\n.*?\n", "", again))
    assert release_for(BOOKWORM, engine, cache, source=source).archive.engine_digest != first.engine_digest


def test_engine_imports_nothing_of_the_bot() -> None:
    """Else `engine_digest` would miss a change that the engine sees."""
    package = RuntimeSource.of_this_program().folder / "clawd_runtime"
    files = [path for path in package.rglob("*.py") if "bot" not in path.relative_to(package).parts]
    assert files
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert not [name for name in names if name.startswith("clawd_runtime.bot")], path


def test_python_imports_from_an_unpacked_release(
    source: RuntimeSource, engine: EngineWheel, cache: Cache, tmp_path: Path
) -> None:
    release = release_for(BOOKWORM, engine, cache, source=source)
    shutil.unpack_archive(release.archive.archive, tmp_path / "r", "gztar")
    code = "import alpha, beta, llama_cpp, clawd_runtime.engine.main as m; print(m.__file__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={"PYTHONPATH": str(tmp_path / "r/site-packages")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].startswith(str(tmp_path / "r/site-packages"))


@pytest.mark.parametrize(
    ("path", "needed"),
    [
        ("numpy/__init__.py", True),
        ("numpy/testing/__init__.py", True),
        ("numpy/_core/tests/test_x.py", False),
        ("numpy/_core/include/numpy/arrayobject.h", False),
        ("numpy/random/lib/libnpyrandom.a", False),
        ("numpy.libs/libopenblas.so", True),
        ("bin/libggml-cpu-haswell.so", True),
        ("lib/libllama.so", False),
        ("llama_cpp/lib/libllama.so.0", True),
        ("include/llama.h", False),
        ("pydantic/main.pyi", False),
        ("pydantic/py.typed", True),
        ("httpx-1.dist-info/METADATA", True),
        ("httpx-1.dist-info/licenses/LICENSE.md", True),
        ("httpx-1.dist-info/RECORD", False),
        ("tests.py", True),
        ("certifi/cacert.pem", True),
    ],
)
def test_needed_at_run_time_excludes_only_build_files(path: str, needed: bool) -> None:
    assert needed_at_run_time(path) is needed
