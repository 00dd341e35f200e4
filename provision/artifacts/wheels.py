"""The wheels of one kind of host, fetched once and checked each time they are used."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from inventory.errors import ArtifactError
from provision.artifacts import pip
from provision.artifacts.cache import Cache, digest_of, sha256_of
from provision.artifacts.kind import HostKind
from provision.artifacts.lockfile import Locked
from provision.artifacts.progress import Tell, silent

_ONLY_WHEELS = ("--only-binary", ":all:")


def wheels_for(
    entries: Collection[Locked], kind: HostKind, cache: Cache, progress: Tell = silent
) -> tuple[Path, ...]:
    """The wheels of all `entries` (already chosen for `kind`), sorted by file name.

    Comes from the cache when it is there and whole. Raises ArtifactError when one cannot be had.
    """
    key = f"{kind}-{digest_of(*(str(entry) for entry in entries))}"
    folder = cache.entry("wheels", key)
    with cache.lock(f"wheels-{kind}", progress):
        if not _whole(folder, entries):
            with cache.making("wheels", key) as work:
                options = (*_ONLY_WHEELS, *kind.pip_options)
                pip.download(entries, work, options, what=f"packages for {kind}", progress=progress)
                if not _whole(work, entries):
                    raise ArtifactError(f"packages for {kind}: pip fetched other files than those locked")
        cache.used(folder)
    return tuple(sorted(folder.glob("*.whl")))


def _whole(folder: Path, entries: Collection[Locked]) -> bool:
    """Whether the folder holds one wheel of each entry, and nothing else, with a locked digest."""
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
