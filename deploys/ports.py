"""Rules for ports: no port of a host is used twice, and none is open to more clients than intended.

Pure functions of the inventory alone. The settings of a component know the ports that it listens on, the
rules of the inventory know those that are declared; the two are compared here.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploys.component import Component
from deploys.registry import COMPONENTS
from inventory.model import Inventory
from inventory.reading.source import dotted
from inventory.rule_findings import EVERY_ROLE, InventoryFinding, InventoryRule
from inventory.rules.hosts import PortClaim, claims


def ports(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding for each declared port that another component always uses on the same host."""
    declared = [claim for claim in claims(inventory) if claim.component]
    for claim in declared:
        for component in COMPONENTS:
            own = {other.port for other in declared if other.component == component.name}
            shared = [] if claim.port in own else _hosts_of_both(inventory, claim, component)
            if shared:
                yield InventoryFinding(
                    (claim.path,),
                    f"port {claim.port} is used twice on {', '.join(shared)}: "
                    f"by `{dotted(claim.path)}` and by {component.name}",
                    "choose another port",
                    (EVERY_ROLE,),
                )


def _hosts_of_both(inventory: Inventory, claim: PortClaim, component: Component) -> list[str]:
    return [
        host
        for host in inventory.hosts
        if host in claim.hosts and claim.port in component.ports_for(inventory, host)
    ]


def guarded(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when ports meant for certain hosts or networks are not protected by the firewall."""
    if inventory.firewall.enabled:
        return
    exposed = [
        f"{opening.port} of {host} ({opening.purpose})"
        for host in inventory.hosts
        for component in COMPONENTS
        # Kibana's networks have a rule of their own.
        if component.name != "kibana" and component.settings_for(inventory, host) is not None
        for opening in component.openings_for(inventory, host)
        if opening.sources
    ]
    if exposed:
        listed = ", ".join(exposed[:MOST_LISTED])
        more = f" and {len(exposed) - MOST_LISTED} more" if len(exposed) > MOST_LISTED else ""
        yield InventoryFinding(
            (("firewall", "enabled"),),
            f"without the firewall these ports are open to everyone who reaches the host: {listed}{more}",
            "write `enabled: true`, or give all roles to one host, whose parts reach each other by loopback",
            (EVERY_ROLE,),
        )


MOST_LISTED = 4
RULES: tuple[InventoryRule, ...] = (ports, guarded)
