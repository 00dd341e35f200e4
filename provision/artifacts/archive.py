"""Archives (.tar.gz) with the same bytes on every laptop.

Order, times, owners and modes are fixed. The compressor could still differ: zlib, zlib-ng and Apple's zlib
compress the same input to different bytes. Therefore nothing is compressed here: each file becomes a separate
gzip member (RFC 1952 allows any number of them) around the DEFLATE stream from its wheel; everything else is
stored in uncompressed blocks (RFC 1951, 3.2.4).
"""

from __future__ import annotations

import hashlib
import struct
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

from inventory.errors import ArtifactError

_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LARGEST_STORED_BLOCK = 0xFFFF
_LARGEST_MEMBER = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Stored:
    """Uncompressed content."""

    data: bytes

    @property
    def size(self) -> int:
        """Return the unpacked size in bytes."""
        return len(self.data)

    def unpacked(self) -> bytes:
        """Return the content."""
        return self.data

    def gzip_member(self) -> bytes:
        """Return the content as a gzip member."""
        return _member(b"".join(_stored_blocks(self.data)), zlib.crc32(self.data), len(self.data))


@dataclass(frozen=True, slots=True)
class Deflated:
    """A raw DEFLATE stream, with the CRC-32 and the length of its unpacked content."""

    raw: bytes
    crc: int
    size: int

    def unpacked(self) -> bytes:
        """Return the unpacked content. Raises `ArtifactError` when the stream is damaged."""
        try:
            data = zlib.decompress(self.raw, wbits=-zlib.MAX_WBITS)
        except zlib.error as error:
            raise ArtifactError(f"a compressed file is damaged: {error}") from error
        if len(data) != self.size or zlib.crc32(data) != self.crc:
            raise ArtifactError("a compressed file is damaged: wrong checksum")
        return data

    def gzip_member(self) -> bytes:
        """Return the stream as a gzip member."""
        return _member(self.raw, self.crc, self.size)


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symbolic link to `target`, relative to its folder."""

    target: str


@dataclass(frozen=True, slots=True)
class ArchiveEntry:
    """A file or link of an archive; `path` is relative and in POSIX form."""

    path: str
    content: Stored | Deflated | Symlink
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Written:
    """An archive on disk: its digest, its size, and the bytes of the files in it when unpacked."""

    sha256: str
    size: int
    unpacked: int


def write(target: Path, entries: Iterable[ArchiveEntry]) -> Written:
    """Write an archive of `entries` and their folders.

    The bytes depend only on the entries, not on their order. Raises `ArtifactError` when two have the same
    path.
    """
    ordered = sorted(entries, key=lambda entry: entry.path)
    for one, following in pairwise(ordered):
        if one.path == following.path:
            raise ArtifactError(f"{target.name}: two entries have the path {one.path}")
    digest = hashlib.sha256()
    size = 0
    with target.open("wb") as out:
        for block in _members(ordered):
            out.write(block)
            digest.update(block)
            size += len(block)
    unpacked = sum(entry.content.size for entry in ordered if not isinstance(entry.content, Symlink))
    return Written(digest.hexdigest(), size, unpacked)


def linked_duplicates(entries: Iterable[ArchiveEntry]) -> Iterator[ArchiveEntry]:
    """Yield the entries, with copies of a shared library in one folder replaced by links to one of them.

    Wheels cannot contain links, so a library is present under each of its names (libx.so, libx.so.1, …). The
    file with the longest name is kept.
    """
    libraries: dict[tuple[str, str], str] = {}
    rest: list[ArchiveEntry] = []
    for entry in sorted(entries, key=lambda entry: (-len(entry.path), entry.path)):
        path = PurePosixPath(entry.path)
        if isinstance(entry.content, Symlink) or ".so" not in path.suffixes:
            rest.append(entry)
            continue
        digest = hashlib.sha256(entry.content.unpacked()).hexdigest()
        original = libraries.setdefault((str(path.parent), digest), path.name)
        rest.append(entry if original == path.name else ArchiveEntry(entry.path, Symlink(original), 0o777))
    yield from rest


def _members(ordered: list[ArchiveEntry]) -> Iterator[bytes]:
    """Yield the gzip members. Headers and padding between two file contents share one member."""
    pending = bytearray()
    folders: set[str] = set()
    for entry in ordered:
        for folder in reversed(PurePosixPath(entry.path).parents):
            if str(folder) != "." and str(folder) not in folders:
                folders.add(str(folder))
                pending += _header(str(folder), tarfile.DIRTYPE, 0o755)
        content = entry.content
        if isinstance(content, Symlink):
            pending += _header(entry.path, tarfile.SYMTYPE, 0o777, link=content.target)
            continue
        pending += _header(entry.path, tarfile.REGTYPE, entry.mode, size=content.size)
        if isinstance(content, Stored):
            pending += content.data
        else:
            yield Stored(bytes(pending)).gzip_member()
            yield content.gzip_member()
            pending.clear()
        pending += bytes(-content.size % tarfile.BLOCKSIZE)
    pending += bytes(2 * tarfile.BLOCKSIZE)
    yield Stored(bytes(pending)).gzip_member()


def _header(path: str, kind: bytes, mode: int, *, size: int = 0, link: str = "") -> bytes:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.size, info.linkname, info.mtime = kind, mode, size, link, 0
    return info.tobuf(tarfile.PAX_FORMAT)


def _member(deflated: bytes, crc: int, size: int) -> bytes:
    return _GZIP_HEADER + deflated + struct.pack("<II", crc, size & _LARGEST_MEMBER)


def _stored_blocks(data: bytes) -> Iterator[bytes]:
    for start in range(0, max(len(data), 1), _LARGEST_STORED_BLOCK):
        block = data[start : start + _LARGEST_STORED_BLOCK]
        last = start + _LARGEST_STORED_BLOCK >= len(data)
        yield struct.pack("<BHH", last, len(block), len(block) ^ 0xFFFF)
        yield block
