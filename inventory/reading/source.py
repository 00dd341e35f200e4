"""The content of a file as plain data, with the position of every value."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

from inventory.errors import InventoryError, Mistake

KeyPath = tuple[str | int, ...]
"""The keys that lead from the root of a file to a value: `("hosts", "bot1", "roles", 0)`."""


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """A position in a file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value with a secret tag: `!env NAME` is `Tagged("!env", "NAME")`."""

    tag: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """The content of a file with the positions of keys and values.

    `data` consists of dict, list, str, int, float, bool, None and `Tagged`. `keys` and `values` give the
    positions by key path; an item of a list has a value only. `mistaken` are the key paths whose value
    differs from the file because of one of the `mistakes`.
    """

    file: str
    data: Any
    keys: dict[KeyPath, SourcePosition]
    values: dict[KeyPath, SourcePosition]
    mistakes: tuple[Mistake, ...]
    mistaken: tuple[KeyPath, ...] = ()

    def place(self, path: KeyPath) -> SourcePosition:
        """Return the position to report for `path`.

        It is that of the value for a single value, that of the key for a mapping, a list or null, and that of
        the nearest existing parent for a missing value.
        """
        for length in range(len(path), 0, -1):
            part = path[:length]
            if part not in self.values:
                continue
            if length == len(path) and not isinstance(self.at(part), dict | list | None):
                return self.values[part]
            return self.keys.get(part, self.values[part])
        return self.values[()]

    def key_place(self, path: KeyPath) -> SourcePosition:
        """Return the position of the key of `path`, or else `place(path)`."""
        return self.keys.get(path) or self.place(path)

    def at(self, path: KeyPath) -> Any:
        """Return the value at a `path` that the file has."""
        return reduce(getitem, path, self.data)

    def has(self, path: KeyPath) -> bool:
        """Return whether the file has a value at `path`."""
        return path in self.values


def unreadable(file: str, place: SourcePosition, problem: str, advice: str) -> InventoryError:
    """Return an error with the one mistake that makes the rest of `file` unreadable."""
    return InventoryError((Mistake(file, place.line, place.column, problem, advice),))


def dotted(path: KeyPath) -> str:
    """Return a key path as people write it: `hosts.bot1.roles[0]`."""
    text = ""
    for key in path:
        word = f"[{key}]" if isinstance(key, int) else " ".join(key.split())
        text += f".{word}" if text and isinstance(key, str) else word
    return text
