"""Rules for the section `hardening` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.model import Inventory
from inventory.rule_findings import InventoryFinding, InventoryRule


def hardening(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when two keys are the same kernel setting."""
    first: dict[str, str] = {}
    for key in inventory.hardening.sysctl:
        other = first.setdefault(sysctl_path(key), key)
        if other != key:
            yield InventoryFinding(
                (("hardening", "sysctl", key),),
                f"`{key}` and `{other}` are the same kernel setting",
                "keep one of them",
            )


def words(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding for `on` or `off`, which only one kernel setting accepts."""
    for key, value in inventory.hardening.sysctl.items():
        if value in ("on", "off") and sysctl_path(key) != "kernel/printk_devkmsg":
            yield InventoryFinding(
                (("hardening", "sysctl", key),),
                f"`{value}` is not a value of `{key}`",
                f"write {'1' if value == 'on' else '0'}",
            )


def sysctl_path(key: str) -> str:
    """Return the path of a kernel setting below /proc/sys (sysctl.d(5))."""
    return key.translate(str.maketrans("./", "/."))


RULES: tuple[InventoryRule, ...] = (hardening, words)
