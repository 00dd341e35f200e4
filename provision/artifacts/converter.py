"""llama.cpp's converter of safetensors to GGUF, from the same locked source as the engine."""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath

from inventory.errors import ArtifactError
from provision.artifacts import lockfile
from provision.artifacts.engine.wheel import fetch_sdist
from provision.artifacts.runtime_source import ENGINE, RuntimeSource
from provision.local.cache import Cache
from provision.local.report_progress import ReportProgress, silent

PROGRAM = "convert_hf_to_gguf.py"
_PLACE = ("vendor", "llama.cpp")
_PARTS = (PROGRAM, "conversion", "gguf-py")


def converter(cache: Cache, progress: ReportProgress = silent) -> Path:
    """Return the path of the converter; downloaded once for each version of the engine.

    Raises `ArtifactError` when it cannot be downloaded.
    """
    locked = lockfile.named(RuntimeSource.of_this_program().locked, ENGINE)
    folder = cache.entry("toolbox", f"converter-{locked.version}")
    if not folder.is_dir():
        with (
            cache.lock("converter", progress),
            cache.workspace() as work,
            cache.making("toolbox", folder.name) as entry,
        ):
            unpack(fetch_sdist(locked, work, progress), entry)
    cache.used(folder)
    return folder / PROGRAM


def unpack(sdist: Path, folder: Path) -> None:
    """Write the converter and the modules that it imports to `folder`.

    Raises `ArtifactError` when the archive has no converter.
    """
    with tarfile.open(sdist) as archive:
        for member in archive:
            parts = PurePosixPath(member.name).parts[1:]
            if not member.isfile() or parts[:2] != _PLACE or ".." in parts or parts[2:3][0] not in _PARTS:
                continue
            content = archive.extractfile(member)
            assert content is not None
            target = folder.joinpath(*parts[2:])
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.read())
    if not (folder / PROGRAM).is_file():
        raise ArtifactError(f"{sdist.name}: has no {PROGRAM}", advice="report this error")
