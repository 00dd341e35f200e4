"""The wheels for one kind of host, downloaded once and verified before each use."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from inventory.errors import ArtifactError
from provision.artifacts import pip
from provision.artifacts.host_kind import HostKind
from provision.artifacts.lockfile import Locked
from provision.local.cache import Cache, digest_of, sha256_of
from provision.local.report_progress import ReportProgress, silent

_ONLY_WHEELS = ("--only-binary", ":all:")


def wheels_for(
    entries: Collection[Locked], kind: HostKind, cache: Cache, progress: ReportProgress = silent
) -> tuple[Path, ...]:
    """Return the wheels of all `entries` (already selected for `kind`), sorted by file name.

    They come from the cache if it has them intact. Raises `ArtifactError` when one cannot be downloaded.
    """
    key = f"{kind}-{digest_of(*(str(entry) for entry in entries))}"
    folder = cache.entry("wheels", key)
    with cache.lock(f"wheels-{kind}", progress):
        if not _whole(folder, entries):
            with cache.making("wheels", key) as work:
                options = (*_ONLY_WHEELS, *kind.pip_options)
                pip.download(entries, work, options, what=f"packages for {kind}", progress=progress)
                if not _whole(work, entries):
                    raise ArtifactError(
                        f"packages for {kind}: pip downloaded other files than the locked ones",
                        advice="use another mirror (PIP_INDEX_URL)",
                    )
        cache.used(folder)
    return tuple(sorted(folder.glob("*.whl")))


def _whole(folder: Path, entries: Collection[Locked]) -> bool:
    """Return whether the folder contains exactly one wheel of each entry, with a locked digest."""
    if not folder.is_dir():
        return False
    found: dict[tuple[str, Version], str] = {}
    for file in folder.iterdir():
        try:
            name, version, _, _ = parse_wheel_filename(file.name)
        except InvalidWheelFilename:
            return False
        found[name, version] = sha256_of(file)
    return len(found) == len(entries) and all(
        found.get((entry.name, Version(entry.version))) in entry.hashes for entry in entries
    )
