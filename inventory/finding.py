"""What a rule says when it does not hold, and what rules have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inventory.model import Inventory
from inventory.source import KeyPath
from inventory.values import size_in_bytes

EVERY_ROLE: KeyPath = ("hosts", "*", "roles")
"""What a finding rests on that looks at which host has which role."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that does not hold.

    `at` are the key paths it is about, the one to point at first; when the file does not say that one, the
    next. A path in `depends_on` may have `*` for any key. A finding is dropped when what it rests on is
    mistaken itself.
    """

    at: tuple[KeyPath, ...]
    problem: str
    advice: str
    depends_on: tuple[KeyPath, ...] = ()


Rule = Callable[[Inventory], Iterator[Finding]]


def at_least(path: KeyPath, size: str, least: str, whose: str) -> Iterator[Finding]:
    """`size` gives `whose` process no less than `least`."""
    if size_in_bytes(size) < size_in_bytes(least):
        yield Finding((path,), f"{size} is too little for {whose} to work", f"write at least {least}")
