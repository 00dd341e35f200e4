"""Releases: everything that clawd-runtime needs on one kind of host, in one archive.

release.json      versions and digests of its inputs
site-packages/    clawd_runtime and the packages it imports, with llama.cpp built for this kind

The digest of its manifest identifies a release, so that all laptops agree on it however they compress.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from packaging.utils import parse_wheel_filename

from deploys.artifacts import ReleaseArchive
from provision.artifacts import archive, lockfile, wheel_file
from provision.artifacts.archive import ArchivedFile, ArchiveEntry, ManifestEntry
from provision.artifacts.engine.wheel import EngineWheel
from provision.artifacts.host_kind import HostKind
from provision.artifacts.runtime_source import ENGINE, PACKAGE, RuntimeSource
from provision.artifacts.wheel_file import Member
from provision.artifacts.wheels import wheels_for
from provision.local.cache import Cache, digest_of
from provision.local.report_progress import ReportProgress, silent

_FORMAT = "2"
"""Increment it when the same inputs must result in another release, or another record of it."""

_KEPT_FOR = 30 * 86400.0
"""Seconds after which an unused entry of the cache is removed."""

_ABOUT = "release.json"
_SITE = "site-packages"
_ARCHIVE = "clawd-runtime.tar.gz"
_RECORD = "made.json"

_BUILD_TIME_FOLDERS = {"tests", "__pycache__"}
_BUILD_TIME_SUFFIXES = {".a", ".la", ".h", ".hpp", ".c", ".cpp", ".pxd", ".pyx", ".pyi", ".cmake", ".pc"}
_NOT_PACKAGES = {"include", "lib", "share"}
_INSTALLERS_OWN = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


@dataclass(frozen=True, slots=True)
class RuntimeRelease:
    """An archive with the unpacked size of the wheels (`came`) and of the archive (`kept`) in bytes."""

    archive: ReleaseArchive
    came: int
    kept: int


def release_for(
    kind: HostKind,
    engine: EngineWheel,
    cache: Cache,
    *,
    source: RuntimeSource | None = None,
    progress: ReportProgress = silent,
) -> RuntimeRelease:
    """Return the release for hosts of `kind`; built when its inputs changed, else from the cache.

    Hosts that get an engine with all variants for processors share it, with any processor.

    Raises `ArtifactError` when a package cannot be downloaded or is damaged.
    """
    source = source or RuntimeSource.of_this_program()
    kind = replace(kind, cpu=engine.built_on.cpu)
    locked = lockfile.for_kind(source.locked, kind, without={ENGINE})
    inputs = digest_of(_FORMAT, source.version, engine.sha256, _digest(source.files()), *map(str, locked))
    key = f"{kind}-{inputs}"
    folder = cache.entry("releases", key)
    if (release := _recorded(folder)) is None:
        with cache.lock(f"release-{kind}", progress):
            if (release := _recorded(folder)) is None:
                wheels = wheels_for(locked, kind, cache, progress)
                progress(f"assembling the release for {kind}")
                with cache.making("releases", key) as work:
                    _make(work, kind, source, (engine.path, *wheels))
                release = _recorded(folder)
                cache.prune(_KEPT_FOR)
    assert release is not None
    cache.used(folder)
    return release


def entries_of(members: Iterable[Member], folder: str) -> Iterator[ArchiveEntry]:
    """Yield the files of wheels that belong in site-packages, without those that only builds need."""
    for member in members:
        if member.scheme == "lib" and needed_at_run_time(member.path):
            yield member.entry(folder)


def needed_at_run_time(path: str) -> bool:
    """Return whether a running program may use a file of site-packages."""
    place = PurePosixPath(path)
    if place.parts[0] in _NOT_PACKAGES or not _BUILD_TIME_FOLDERS.isdisjoint(place.parts[:-1]):
        return False
    if place.parts[0].endswith(".dist-info"):
        return place.name not in _INSTALLERS_OWN
    return place.suffix not in _BUILD_TIME_SUFFIXES


def _make(work: Path, kind: HostKind, source: RuntimeSource, wheels: tuple[Path, ...]) -> None:
    about = _about(kind, source, wheels)
    with wheel_file.members(wheels) as members:
        packages = archive.linked_duplicates(entries_of(members, _SITE))
        entries = [ArchivedFile(_ABOUT, lambda: about), *source.entries(_SITE), *packages]
        written = archive.write(work / _ARCHIVE, entries)
        came = sum(member.size for member in members)
    read_by_the_engine = filter(_is_read_by_the_engine, written.manifest)
    record = {
        "manifest": archive.manifest_digest(written.manifest),
        "sha256": written.sha256,
        "size": written.size,
        "engine": archive.manifest_digest(read_by_the_engine)[:16],
        "came": came,
        "kept": written.unpacked,
    }
    (work / _RECORD).write_text(json.dumps(record), encoding="utf-8")


def _is_read_by_the_engine(listed: ManifestEntry) -> bool:
    return listed.path != _ABOUT and not listed.path.startswith(f"{_SITE}/{PACKAGE}/bot/")


def _about(kind: HostKind, source: RuntimeSource, wheels: tuple[Path, ...]) -> bytes:
    names = [parse_wheel_filename(wheel.name) for wheel in wheels]
    packages = {str(name): str(version) for name, version, *_ in names}
    about = {
        "clawd-runtime": source.version,
        "kind": kind.to_json(),
        "packages": packages,
        "source": _digest(source.files()),
    }
    return (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()


def _recorded(folder: Path) -> RuntimeRelease | None:
    """Return the release of a cache entry; `None` when it is missing or has the wrong size."""
    made = folder / _ARCHIVE
    try:
        record = json.loads((folder / _RECORD).read_text(encoding="utf-8"))
        if made.stat().st_size != record["size"]:
            return None
        found = ReleaseArchive(made, record["sha256"], record["size"], record["manifest"], record["engine"])
        return RuntimeRelease(found, record["came"], record["kept"])
    except (OSError, ValueError, KeyError):
        return None


def _digest(files: Iterable[tuple[str, bytes]]) -> str:
    return digest_of(*(f"{path} {hashlib.sha256(content).hexdigest()}" for path, content in files))
