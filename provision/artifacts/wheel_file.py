"""A reader of wheels (zip files, PEP 427) that does not unpack or recompress them."""

from __future__ import annotations

import os
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from inventory.errors import ArtifactError
from provision.artifacts.archive import ArchiveEntry, Deflated, Stored

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_EXECUTABLE = 0o111


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a wheel with its installation path.

    `scheme` is `lib` for files in site-packages, else the scheme of its `.data` folder (`scripts`, `headers`,
    `data`). `path` is relative to the folder of that scheme.
    """

    scheme: str
    path: str
    executable: bool
    content: Stored | Deflated

    def entry(self, folder: str) -> ArchiveEntry:
        """Return the file as an entry of an archive, under `folder`."""
        return ArchiveEntry(f"{folder}/{self.path}", self.content, 0o755 if self.executable else 0o644)


def members(wheel: Path) -> Iterator[Member]:
    """Yield the files of a wheel in its order.

    Raises `ArtifactError` for a damaged zip file, or a file name that leads outside the folder.
    """
    try:
        with zipfile.ZipFile(wheel) as archive, wheel.open("rb") as handle:
            for info in archive.infolist():
                if info.is_dir():
                    continue
                scheme, path = _place(info.filename, wheel)
                executable = bool(info.external_attr >> 16 & _EXECUTABLE)
                yield Member(scheme, path, executable, _content(archive, info, handle.fileno(), wheel))
    except (zipfile.BadZipFile, struct.error) as error:
        raise ArtifactError(f"{wheel}: is a damaged wheel: {error}") from error


def _place(name: str, wheel: Path) -> tuple[str, str]:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise ArtifactError(f"{wheel}: contains a file with the forbidden name {name!r}")
    if path.parts[0].endswith(".data") and len(path.parts) > 2:
        scheme = path.parts[1]
        rest = str(PurePosixPath(*path.parts[2:]))
        return ("lib" if scheme in {"purelib", "platlib"} else scheme), rest
    return "lib", str(path)


def _content(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, descriptor: int, wheel: Path
) -> Stored | Deflated:
    if info.compress_type != zipfile.ZIP_DEFLATED:
        return Stored(archive.read(info))
    header = os.pread(descriptor, _LOCAL_HEADER.size, info.header_offset)
    fields = _LOCAL_HEADER.unpack(header)
    if fields[0] != b"PK\x03\x04":
        raise ArtifactError(f"{wheel}: is a damaged wheel: no header before {info.filename}")
    start = info.header_offset + _LOCAL_HEADER.size + fields[-2] + fields[-1]
    raw = os.pread(descriptor, info.compress_size, start)
    if len(raw) != info.compress_size:
        raise ArtifactError(f"{wheel}: is truncated inside {info.filename}")
    return Deflated(raw, info.CRC, info.file_size)
