"""Which ports of a host are open, and to whom."""

from __future__ import annotations

from pydantic import Field

from deploys.component import ComponentSettings, Opening
from deploys.registry import COMPONENTS
from inventory.model import Inventory
from inventory.types import Network, Port


class FirewallSettings(ComponentSettings):
    """Connections accepted by one host, in addition to answers to its requests, loopback and ICMP."""

    ssh_port: Port | None = Field(None, description="Port of sshd; the one in use when absent.")
    management: tuple[Network, ...] = Field((), description="Networks that may use SSH; all when empty.")
    openings: tuple[Opening, ...] = ()


def settings_for(inventory: Inventory, host: str) -> FirewallSettings | None:
    """Return the openings of `host`: those of its components, and declared ones."""
    if not inventory.firewall.enabled:
        return None
    return FirewallSettings(
        ssh_port=inventory.base.ssh_port,
        management=inventory.firewall.management,
        openings=(
            *(opening for component in COMPONENTS for opening in component.openings_for(inventory, host)),
            *_declared(inventory),
        ),
    )


def _declared(inventory: Inventory) -> tuple[Opening, ...]:
    return tuple(
        Opening(port=item.port, protocol=item.protocol, sources=tuple(str(network) for network in item.from_))
        for item in inventory.firewall.open
    )
