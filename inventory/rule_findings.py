"""Findings of rules, and what rules have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.values import size_in_bytes

EVERY_ROLE: KeyPath = ("hosts", "*", "roles")
"""Key path for `InventoryFinding.depends_on` of rules that depend on the roles of hosts."""


@dataclass(frozen=True, slots=True)
class InventoryFinding:
    """A rule that an inventory violates.

    `at` are the key paths it is about; the message points at the first that the file has. A path in
    `depends_on` may have `*` for any key. A finding is dropped when a value that it depends on is itself
    mistaken. A warning does not refuse the inventory.
    """

    at: tuple[KeyPath, ...]
    problem: str
    advice: str
    depends_on: tuple[KeyPath, ...] = ()
    is_warning: bool = False


InventoryRule = Callable[[Inventory], Iterator[InventoryFinding]]


def at_least(path: KeyPath, size: str, least: str, whose: str) -> Iterator[InventoryFinding]:
    """Yield a finding when `size` is below `least`, the least that the process `whose` works with."""
    if size_in_bytes(size) < size_in_bytes(least):
        yield InventoryFinding((path,), f"{size} is too little memory for {whose}", f"write at least {least}")
