"""Archives (.tar.gz) of files and links, and the manifest of what one unpacks to.

Two versions of a compressor make different archives of the same files. Therefore the manifest identifies what
is in an archive, and the archive's own digest is only for its transfer.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from inventory.errors import ArtifactError

_LEVEL = 4
"""Level of compression. 6 takes twice as long for 4 % less, and 9 five times as long for 5 % less."""


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """A file of an archive; `path` is relative and in POSIX form, `read` returns the content."""

    path: str
    read: Callable[[], bytes]
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link of an archive to `target`, relative to its folder."""

    path: str
    target: str


ArchiveEntry = ArchivedFile | Symlink


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """An entry in a manifest, with type and permissions as in `st_mode`.

    `sha256` is the digest of a file's content, of a link's target.
    """

    path: str
    mode: int
    sha256: str

    def __str__(self) -> str:
        return f"{self.mode:06o} {self.sha256} {self.path}"


@dataclass(frozen=True, slots=True)
class Written:
    """An archive on disk: its digest, its size, its manifest, and the bytes of its files when unpacked."""

    sha256: str
    size: int
    manifest: tuple[ManifestEntry, ...]
    unpacked: int


def write(target: Path, entries: Iterable[ArchiveEntry]) -> Written:
    """Write an archive of `entries` and their folders.

    The manifest depends only on the entries, not on their order. Raises `ArtifactError` when two have the
    same path.
    """
    ordered = sorted(entries, key=lambda entry: entry.path)
    for one, following in pairwise(ordered):
        if one.path == following.path:
            raise ArtifactError(f"{target.name}: two entries have the path {one.path}")
    # Without a time, so that the interrupted push of an archive continues although it was made again.
    with (
        target.open("wb") as out,
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=out, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add_folders(tar, ordered)
        added = [_add(tar, entry) for entry in ordered]
    with target.open("rb") as made:
        digest = hashlib.file_digest(made, "sha256").hexdigest()
    manifest = tuple(listed for listed, _ in added)
    return Written(digest, target.stat().st_size, manifest, sum(size for _, size in added))


def manifest_digest(manifest: Iterable[ManifestEntry]) -> str:
    """Return the SHA-256 digest of a manifest, which is the same however its files are packed."""
    lines = (f"{listed}\0" for listed in sorted(manifest, key=lambda listed: listed.path))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def linked_duplicates(entries: Iterable[ArchiveEntry]) -> Iterator[ArchiveEntry]:
    """Yield the entries, with copies of a shared library in one folder replaced by links to one of them.

    Wheels cannot contain links, so a library is present under each of its names (libx.so, libx.so.1, …). The
    file with the longest name is kept.
    """
    libraries: dict[tuple[str, str], str] = {}
    for entry in sorted(entries, key=lambda entry: (-len(entry.path), entry.path)):
        path = PurePosixPath(entry.path)
        if isinstance(entry, Symlink) or ".so" not in path.suffixes:
            yield entry
            continue
        digest = hashlib.sha256(entry.read()).hexdigest()
        original = libraries.setdefault((str(path.parent), digest), path.name)
        yield entry if original == path.name else Symlink(entry.path, original)


def _add_folders(tar: tarfile.TarFile, entries: Iterable[ArchiveEntry]) -> None:
    folders = {str(folder) for entry in entries for folder in PurePosixPath(entry.path).parents}
    for folder in sorted(folders - {"."}):
        tar.addfile(_header(folder, tarfile.DIRTYPE, 0o755))


def _add(tar: tarfile.TarFile, entry: ArchiveEntry) -> tuple[ManifestEntry, int]:
    """Append an entry; return its line of the manifest and its unpacked size."""
    if isinstance(entry, Symlink):
        header = _header(entry.path, tarfile.SYMTYPE, 0o777)
        header.linkname = entry.target
        tar.addfile(header)
        digest = hashlib.sha256(entry.target.encode()).hexdigest()
        return ManifestEntry(entry.path, stat.S_IFLNK | header.mode, digest), 0
    content = entry.read()
    header = _header(entry.path, tarfile.REGTYPE, entry.mode)
    header.size = len(content)
    tar.addfile(header, io.BytesIO(content))
    digest = hashlib.sha256(content).hexdigest()
    return ManifestEntry(entry.path, stat.S_IFREG | entry.mode, digest), header.size


def _header(path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    """Return a header without owner and time."""
    header = tarfile.TarInfo(path)
    header.type, header.mode = kind, mode
    return header
