"""A reader of wheels (zip files, PEP 427) that does not unpack them to disk."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from inventory.errors import ArtifactError
from provision.artifacts.archive import ArchivedFile

_EXECUTABLE = 0o111
DAMAGED = "remove `wheels` in the cache (`$CLAWD_CACHE` or ~/.cache/clawd-provision), then try again"
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError, RuntimeError, ValueError
)  # fmt: skip
"""What `zipfile` raises for a damaged file: also for wrong offsets, compressors, and marks of encryption."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an open wheel with its installation path and its unpacked size in bytes.

    `scheme` is `lib` for files in site-packages, else the scheme of its `.data` folder (`scripts`, `headers`,
    `data`). `path` is relative to the folder of that scheme.
    """

    scheme: str
    path: str
    executable: bool
    size: int
    _wheel: zipfile.ZipFile
    _info: zipfile.ZipInfo

    def read(self) -> bytes:
        """Return the content. Raises `ArtifactError` when it is damaged."""
        try:
            return self._wheel.read(self._info)
        except _DAMAGED as error:
            raise ArtifactError(
                f"{self._wheel.filename}: is a damaged wheel: {error or 'truncated'}", advice=DAMAGED
            ) from error

    def entry(self, folder: str) -> ArchivedFile:
        """Return the file as an entry of an archive, under `folder`."""
        return ArchivedFile(f"{folder}/{self.path}", self.read, 0o755 if self.executable else 0o644)


@contextmanager
def members(wheels: Iterable[Path]) -> Iterator[tuple[Member, ...]]:
    """Open wheels and yield their files in order; these can be read until the block ends.

    Raises `ArtifactError` for a damaged zip file, or a file name that leads outside the folder.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(_opened(wheel)) for wheel in wheels]
        yield tuple(
            Member(*_place(info.filename, wheel), _is_executable(info), info.file_size, wheel, info)
            for wheel in opened
            for info in wheel.infolist()
            if not info.is_dir()
        )


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except _DAMAGED as error:
        raise ArtifactError(f"{wheel}: is a damaged wheel: {error}", advice=DAMAGED) from error


def _is_executable(info: zipfile.ZipInfo) -> bool:
    return bool(info.external_attr >> 16 & _EXECUTABLE)


def _place(name: str, wheel: zipfile.ZipFile) -> tuple[str, str]:
    """Return scheme and path of a file of a wheel."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise ArtifactError(
            f"{wheel.filename}: contains a file with the forbidden name {name!r}", advice=DAMAGED
        )
    if path.parts[0].endswith(".data") and len(path.parts) > 2:
        scheme = path.parts[1]
        rest = str(PurePosixPath(*path.parts[2:]))
        return ("lib" if scheme in {"purelib", "platlib"} else scheme), rest
    return "lib", str(path)
