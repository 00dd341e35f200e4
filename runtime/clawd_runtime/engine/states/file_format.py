"""The format of a file with the saved state of a conversation.

    8 bytes   CLAWDKV1
    32 bytes  SHA-256 of all that follows
    4 bytes   length of the header, little-endian
    header    JSON, see `StateFileHeader`
    tokens    32-bit numbers, little-endian
    state     as llama.cpp wrote it

llama.cpp may end the process, or worse, when it reads a state that is damaged or belongs to another model:
the digest is verified, and the model compared, before any of it is passed on.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from clawd_runtime.engine.states.prefixes import WIDTH, Tokens
from clawd_runtime.engine.states.room import StateBuffer, allocate

MAGIC = b"CLAWDKV1"
MOST_TOKENS = 1_048_576
LARGEST_STATE = 1 << 40
_DIGEST = hashlib.sha256().digest_size
_LENGTH = struct.Struct("<I")
_LONGEST_HEADER = 4096
_CHUNK = 4 << 20
"""Bytes that are written or read at once; between them, the work can be stopped."""

HexDigest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class StateFileHeader(BaseModel):
    """What a file contains: the state of `tokens` tokens in `size` bytes, computed with `model`.

    `model` identifies the weights and everything else on which a state depends. `conversation` is the digest
    of the name that the client gave to it; with `shared`, it is the beginning of several conversations.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    model: HexDigest
    tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)]
    size: Annotated[int, Field(ge=1, le=LARGEST_STATE)]
    conversation: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    shared: bool = False


class StateFileError(Exception):
    """A file is damaged, or not of this format or model; the message is the reason."""


class Stopped(Exception):
    """The work was stopped before its end."""


@dataclass(frozen=True, slots=True)
class StateFileStart:
    """What stands before the state in a file, which is not verified yet."""

    header: StateFileHeader
    tokens: Tokens


def write(path: Path, start: StateFileStart, state: StateBuffer, stopped: Callable[[], bool]) -> None:
    """Write the file `path`, readable by its owner only; it appears complete or not at all.

    It is not synced: after a power cut, the digest of an incomplete file is wrong.

    Raises:
        OSError: It cannot be written.
        Stopped: `stopped` returned true.

    """
    head = start.header.model_dump_json().encode()
    lead = _LENGTH.pack(len(head)) + head + _little(start.tokens)
    with memoryview(state)[: start.header.size] as data:
        digest = hashlib.sha256(lead)
        for offset in range(0, len(data), _CHUNK):
            _go_on(stopped)
            digest.update(data[offset : offset + _CHUNK])
        part = path.with_suffix(".part")
        try:
            with create_private(part) as file:
                file.write(MAGIC + digest.digest() + lead)
                for offset in range(0, len(data), _CHUNK):
                    _go_on(stopped)
                    _write_all(file, data[offset : offset + _CHUNK])
            part.rename(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


def read_beginning(path: Path, model: str) -> StateFileStart:
    """Return what the file `path` claims to contain; only its length and its model are verified.

    Raises:
        OSError: It cannot be read.
        StateFileError: It is damaged, or belongs to another model.

    """
    with path.open("rb") as file:
        return _beginning(file, model)[0]


def read(path: Path, model: str, stopped: Callable[[], bool]) -> tuple[StateFileStart, StateBuffer]:
    """Return the content of the file `path`, verified.

    Raises:
        OSError: It cannot be read.
        StateFileError: It is damaged, or belongs to another model.
        Stopped: `stopped` returned true.

    """
    with path.open("rb") as file:
        start, lead, expected = _beginning(file, model)
        state = allocate(start.header.size)
        digest = hashlib.sha256(lead)
        try:
            with memoryview(state)[: start.header.size] as data:
                offset = 0
                while offset < len(data):
                    _go_on(stopped)
                    count = file.readinto(data[offset : offset + _CHUNK])
                    if not count:
                        raise StateFileError("it is shorter than its header says")
                    digest.update(data[offset : offset + count])
                    offset += count
            if digest.digest() != expected:
                raise StateFileError("its digest is wrong")
        except BaseException:
            state.close()
            raise
    return start, state


def _beginning(file: BufferedReader, model: str) -> tuple[StateFileStart, bytes, bytes]:
    """Return the beginning of a file, its bytes after the digest, and the digest."""
    fixed = file.read(len(MAGIC) + _DIGEST + _LENGTH.size)
    if len(fixed) < len(MAGIC) + _DIGEST + _LENGTH.size or not fixed.startswith(MAGIC):
        raise StateFileError("it is not a state of this version")
    (length,) = _LENGTH.unpack(fixed[-_LENGTH.size :])
    if length > _LONGEST_HEADER:
        raise StateFileError("its header is too long")
    head = file.read(length)
    try:
        header = StateFileHeader.model_validate_json(head)
    except ValidationError as error:
        raise StateFileError("its header is damaged") from error
    if header.model != model:
        raise StateFileError("it belongs to another model")
    tokens = file.read(header.tokens * WIDTH)
    if file.tell() + header.size != os.fstat(file.fileno()).st_size:
        raise StateFileError("its length is wrong")
    lead = fixed[-_LENGTH.size :] + head + tokens
    return StateFileStart(header, _little(tokens)), lead, fixed[len(MAGIC) : len(MAGIC) + _DIGEST]


def _little(tokens: Tokens) -> bytes:
    """Return tokens in the byte order of files, or the other way around."""
    if sys.byteorder == "little":
        return tokens
    numbers = array("i", tokens)
    numbers.byteswap()
    return numbers.tobytes()


def _go_on(stopped: Callable[[], bool]) -> None:
    if stopped():
        raise Stopped


def _write_all(file: FileIO, data: memoryview) -> None:
    while data:
        data = data[file.write(data) :]


def create_private(path: Path) -> FileIO:
    """Create the file `path`, or empty it; only its owner can read it."""
    return FileIO(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600))
