"""Rules for the section `nvidia` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.model import Inventory
from inventory.rule_findings import InventoryFinding, InventoryRule


def keys(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when a host has a GPU but the driver's repository has no key."""
    with_gpu = [name for name, host in inventory.hosts.items() if host.gpu != "none"]
    if with_gpu and inventory.nvidia.key is None:
        yield InventoryFinding(
            (("nvidia", "key"), ("nvidia",), ("hosts", with_gpu[0], "gpu")),
            "the driver's packages cannot be verified: `nvidia.key` is missing",
            "download the .pub file of the repository, and write its path",
        )


RULES: tuple[InventoryRule, ...] = (keys,)
