"""What must hold for the section `nvidia` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.finding import Finding, Rule
from inventory.model import Inventory


def keys(inventory: Inventory) -> Iterator[Finding]:
    """Packages of hosts with a GPU are trusted by a key."""
    with_gpu = [name for name, host in inventory.hosts.items() if host.gpu != "none"]
    if with_gpu and inventory.nvidia.key is None:
        yield Finding(
            (("nvidia", "key"), ("nvidia",), ("hosts", with_gpu[0], "gpu")),
            "`nvidia.key` is missing, by which the driver's packages are trusted",
            "save the file that ends in .pub from the repository, and write its path",
        )


RULES: tuple[Rule, ...] = (keys,)
