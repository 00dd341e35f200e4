from __future__ import annotations

import stat
from pathlib import Path

import pytest

from clawd_runtime.engine.states.file_format import (
    StateFileError,
    StateFileHeader,
    StateFileStart,
    Stopped,
    read,
    read_beginning,
    write,
)
from clawd_runtime.engine.states.prefixes import as_tokens
from clawd_runtime.engine.states.room import allocate

MODEL, OTHER = "a" * 64, "b" * 64
TOKENS = as_tokens([1, 2, 300_000])
STATE = bytes(range(256)) * 40


def never() -> bool:
    return False


@pytest.fixture
def path(tmp_path: Path) -> Path:
    data = allocate(len(STATE))
    data[: len(STATE)] = STATE
    path = tmp_path / "one.state"
    write(path, StateFileStart(StateFileHeader(model=MODEL, tokens=3, size=len(STATE)), TOKENS), data, never)
    return path


def test_state_is_read_as_written(path):
    start, state = read(path, MODEL, never)
    assert start.tokens == TOKENS
    assert state[: len(STATE)] == STATE
    assert read_beginning(path, MODEL) == start


def test_only_the_owner_can_read_it(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_any_changed_byte_is_found(path):
    content = path.read_bytes()
    for position in [*range(400), len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        with pytest.raises(StateFileError):
            read(path, MODEL, never)


@pytest.mark.parametrize("length", [0, 7, 43, 44, 100, -1])
def test_shortened_file_is_found(path, length):
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(StateFileError):
        read_beginning(path, MODEL)


def test_extended_file_is_found(path):
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(StateFileError, match="length"):
        read_beginning(path, MODEL)


def test_state_of_another_model_is_refused(path):
    with pytest.raises(StateFileError, match="another model"):
        read(path, OTHER, never)


def test_stopped_write_leaves_no_file(tmp_path):
    data, path = allocate(len(STATE)), tmp_path / "two.state"
    start = StateFileStart(StateFileHeader(model=MODEL, tokens=3, size=len(STATE)), TOKENS)
    answers = iter([False, True])
    with pytest.raises(Stopped):
        write(path, start, data, lambda: next(answers))
    assert not list(tmp_path.iterdir())
