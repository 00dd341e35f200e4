"""Saved states and the limits within which they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clawd_runtime.engine.states.prefixes import WIDTH, Tokens
from clawd_runtime.engine.states.room import StateBuffer


@dataclass(slots=True, eq=False)
class SavedState:
    """The state of `tokens`, in `size` bytes, used last at `used` (seconds since 1970).

    It is in memory (`data`), in a file (`path`) or both; `writing` or `reading` while on its way. While it is
    `wanted`, it stays in memory. `conversation` is the digest of the name that the client gave to it, if any.
    """

    tokens: Tokens
    size: int
    conversation: str
    shared: bool
    used: float
    data: StateBuffer | None = None
    path: Path | None = None
    writing: bool = False
    reading: bool = False
    wanted: int = 0
    dropped: bool = False

    @property
    def count(self) -> int:
        """Number of its tokens."""
        return len(self.tokens) // WIDTH


def preference(state: SavedState) -> tuple[bool, int]:
    """Return the order among states that share equally much: in memory first, then the smallest."""
    return state.data is None, state.size


@dataclass(frozen=True, slots=True)
class StateMatch:
    """A state that begins with the first `count` tokens of a prompt."""

    state: SavedState
    count: int


@dataclass(frozen=True, slots=True)
class StateBudget:
    """Limits of the store: bytes in memory and in files, and seconds after which unused states go."""

    memory: int
    disk: int = 0
    age: float = 7 * 86400
