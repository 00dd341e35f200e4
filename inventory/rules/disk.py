"""Rules for the data disks of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.model import Inventory
from inventory.rule_findings import InventoryFinding, InventoryRule


def kept(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when `keeps` lists something twice."""
    for name, host in inventory.hosts.items():
        for index, item in enumerate(host.disk.keeps if host.disk else ()):
            if host.disk and item in host.disk.keeps[:index]:
                yield InventoryFinding(
                    (("hosts", name, "disk", "keeps", index),), f"`{item}` is listed twice", "list it once"
                )


RULES: tuple[InventoryRule, ...] = (kept,)
