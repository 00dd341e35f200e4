"""What a file says as plain data, and where in the file it says it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import getitem
from typing import Any

from inventory.errors import InventoryError, Mistake

KeyPath = tuple[str | int, ...]
"""From the top of a file to a value: `("hosts", "bot1", "roles", 0)`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands in a file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Tagged:
    """A value that says where a secret comes from: `!env NAME` is `Tagged("!env", "NAME")`."""

    tag: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """What a file says and where it says it.

    `data` consists of dict, list, str, int, float, bool, None and `Tagged`. `keys` and `values` give the
    places by key path; an item of a list has a value only. `mistaken` are the key paths whose value is not
    what the file says, because of one of the `mistakes`.
    """

    file: str
    data: Any
    keys: dict[KeyPath, Place]
    values: dict[KeyPath, Place]
    mistakes: tuple[Mistake, ...]
    mistaken: tuple[KeyPath, ...] = ()

    def place(self, path: KeyPath) -> Place:
        """Where to point for `path`: a single value itself; a mapping, a list or nothing at its key; what is
        not there at the nearest thing around it that is."""
        for length in range(len(path), 0, -1):
            part = path[:length]
            if part not in self.values:
                continue
            if length == len(path) and not isinstance(self.at(part), dict | list | None):
                return self.values[part]
            return self.keys.get(part, self.values[part])
        return self.values[()]

    def key_place(self, path: KeyPath) -> Place:
        """Where the key of `path` stands, or else as `place`."""
        return self.keys.get(path) or self.place(path)

    def at(self, path: KeyPath) -> Any:
        """The value at a `path` that the file has."""
        return reduce(getitem, path, self.data)

    def has(self, path: KeyPath) -> bool:
        """Whether the file itself says something at `path`."""
        return path in self.values


def unreadable(file: str, place: Place, problem: str, advice: str) -> InventoryError:
    """The one mistake that keeps the rest of `file` from being read."""
    return InventoryError((Mistake(file, place.line, place.column, problem, advice),))
