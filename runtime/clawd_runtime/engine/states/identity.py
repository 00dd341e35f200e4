"""What a saved state depends on, as one digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clawd_runtime.engine.states.file_format import HexDigest, Stopped, create_private

_CHUNK = 4 << 20
_MOST_KNOWN = 16
"""Files whose digest is remembered."""


class _Known(BaseModel):
    """A file as it was when its digest was computed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    path: str
    size: int
    modified_ns: int
    inode: int
    sha256: HexDigest


class _KnownFiles(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    files: Annotated[list[_Known], Field(max_length=_MOST_KNOWN)]


def model_identity(weights: str, parameters: Mapping[str, object]) -> str:
    """Return the identity of a model: the digest of its weights and the parameters of its context."""
    text = json.dumps({"weights": weights, **parameters}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def weights_digest(model: Path, notes: Path, stopped: Callable[[], bool]) -> str:
    """Return the SHA-256 digest of the file `model`, which takes a second for each gigabyte.

    It is noted in the file `notes`, and computed again only if the model's file has changed since.

    Raises:
        OSError: The model cannot be read.
        Stopped: `stopped` returned true.

    """
    path = model.resolve()
    status = path.stat()
    known = _noted(notes)
    for file in known:
        same = (file.path, file.size, file.modified_ns, file.inode)
        if same == (str(path), status.st_size, status.st_mtime_ns, status.st_ino):
            return file.sha256
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as content:
        while piece := content.read(_CHUNK):
            if stopped():
                raise Stopped
            digest.update(piece)
    found = _Known(
        path=str(path),
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        inode=status.st_ino,
        sha256=digest.hexdigest(),
    )
    _note(notes, [found, *(file for file in known if file.path != found.path)])
    return found.sha256


def _noted(notes: Path) -> list[_Known]:
    try:
        return _KnownFiles.model_validate_json(notes.read_bytes()).files
    except (OSError, ValidationError):
        return []


def _note(notes: Path, files: list[_Known]) -> None:
    part = notes.with_suffix(".part")
    with create_private(part) as file:
        file.write(_KnownFiles(files=files[:_MOST_KNOWN]).model_dump_json().encode())
    part.rename(notes)
