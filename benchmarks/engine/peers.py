"""Programs to compare the engine with, built or installed once into `.build/bench`.

llama-server and llama-batched-bench come from the llama.cpp in the locked source of llama-cpp-python, so that
both sides compute with the same kernels; they are built for this machine's processor (`GGML_NATIVE`).
xllamacpp is installed from its wheel into an environment of its own.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from deploys.ops.programs import ROOT
from provision.artifacts import lockfile
from provision.artifacts.engine.wheel import BUILD_LOCK, fetch_sdist
from provision.artifacts.runtime_source import ENGINE, RuntimeSource

FOLDER = ROOT / ".build" / "bench"
XLLAMACPP = "xllamacpp==2026.10.11549"
CMAKE = (
    *("-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DGGML_CCACHE=OFF"),
    *("-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_TOOLS=ON"),
    *("-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_WEBUI=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_CURL=OFF"),
)
PROGRAMS = ("llama-server", "llama-batched-bench", "llama-quantize")


def programs() -> Path:
    """Return the folder with llama.cpp's programs; build them (minutes) unless they are there."""
    locked = lockfile.named(RuntimeSource.of_this_program().locked, ENGINE)
    key = hashlib.sha256(" ".join((locked.version, *CMAKE)).encode()).hexdigest()[:12]
    made = FOLDER / f"llama.cpp-{key}"
    if all((made / name).exists() for name in PROGRAMS):
        return made
    with tempfile.TemporaryDirectory(dir=_folder(), prefix="build-") as work:
        sdist = fetch_sdist(locked, Path(work), _progress)
        with tarfile.open(sdist) as archive:
            archive.extractall(work, filter="data")
        (source,) = Path(work).glob("llama_cpp_python-*/vendor/llama.cpp")
        tools = Path(work, "tools")
        _pip(sys.executable, "--target", str(tools), "--require-hashes", "-r", str(BUILD_LOCK))
        _progress("building llama-server, about 5 minutes")
        environment = {"PATH": f"{tools}/bin:/usr/bin:/bin", "PYTHONPATH": str(tools)}
        build = str(Path(work, "build"))
        for command in (
            ["cmake", "-S", str(source), "-B", build, "-G", "Ninja", *CMAKE],
            ["cmake", "--build", build, "--target", *PROGRAMS],
        ):
            log = Path(work, "log")
            with log.open("wb") as output:
                done = subprocess.run(command, env=environment, stdout=output, stderr=output, check=False)
            if done.returncode:
                sys.exit(f"cannot build llama-server:\n{log.read_text(errors='replace')[-3000:]}")
        kept = Path(work, "kept")
        kept.mkdir()
        for name in PROGRAMS:
            shutil.copy2(Path(build, "bin", name), kept)
        kept.replace(made)
    return made


def xllamacpp() -> Path:
    """Return the Python that has xllamacpp; install it unless it is there."""
    made = FOLDER / XLLAMACPP
    python = made / "bin" / "python"
    if not (made / "installed").exists():
        _folder()
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(made)], check=True)
        _pip(str(python), "--only-binary", ":all:", XLLAMACPP)
        (made / "installed").touch()
    return python


def _pip(python: str, *words: str) -> None:
    options = ("-qq", "--disable-pip-version-check", "--no-deps")
    subprocess.run([python, "-m", "pip", "install", *options, *words], check=True)


def _folder() -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    return FOLDER


def _progress(message: str, fraction: float | None = None) -> None:
    print(message, file=sys.stderr, flush=True)
