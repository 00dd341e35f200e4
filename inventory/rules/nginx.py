"""Rules for the section `nginx` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.model import Inventory
from inventory.rule_findings import InventoryFinding, InventoryRule


def trusted_proxies(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when any client may claim another client's address."""
    for index, network in enumerate(inventory.nginx.trusted_proxies):
        if network.prefixlen == 0:
            yield InventoryFinding(
                (("nginx", "trusted_proxies", index),),
                f"{network} lets every client forge its address and bypass limits and allow lists",
                "write only the networks of your own proxies",
            )


def ports(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when a public port is that of the status page."""
    for key, port in (("https_port", inventory.nginx.https_port), ("http_port", inventory.nginx.http_port)):
        if port == STATUS_PORT:
            yield InventoryFinding(
                (("nginx", key),), f"port {port} is used by nginx's status page", "choose another port"
            )


STATUS_PORT = 8090
RULES: tuple[InventoryRule, ...] = (trusted_proxies, ports)
