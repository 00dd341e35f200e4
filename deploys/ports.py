"""No port of a host is wanted by two, and none is open to more than it is for. Pure, of the inventory alone.

Which ports a component listens on is known to its settings; what of them an inventory declares, to the rules
of inventories. The two are compared here.
"""

from __future__ import annotations

from collections.abc import Iterator

from deploys.component import Component
from deploys.registry import COMPONENTS
from inventory.finding import EVERY_ROLE, Finding, Rule
from inventory.mistakes import dotted
from inventory.model import Inventory
from inventory.rules.hosts import Claim, claims


def ports(inventory: Inventory) -> Iterator[Finding]:
    """No declared port is one that another component always has on that host."""
    declared = [claim for claim in claims(inventory) if claim.component]
    for claim in declared:
        for component in COMPONENTS:
            own = {other.port for other in declared if other.component == component.name}
            shared = [] if claim.port in own else _hosts_of_both(inventory, claim, component)
            if shared:
                yield Finding(
                    (claim.path,),
                    f"port {claim.port} is used twice on {', '.join(shared)}: "
                    f"by `{dotted(claim.path)}` and by {component.name}",
                    "choose another port",
                    (EVERY_ROLE,),
                )


def _hosts_of_both(inventory: Inventory, claim: Claim, component: Component) -> list[str]:
    return [
        host
        for host in inventory.hosts
        if host in claim.hosts and claim.port in component.ports_for(inventory, host)
    ]


def guarded(inventory: Inventory) -> Iterator[Finding]:
    """What is for certain hosts or networks only is kept by the firewall, or not opened at all."""
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
        yield Finding(
            (("firewall", "enabled"),),
            f"without the firewall these ports are open to everyone who reaches the host: {listed}{more}",
            "write `enabled: true`, or give all roles to one host, whose parts reach each other by loopback",
            (EVERY_ROLE,),
        )


MOST_LISTED = 4
RULES: tuple[Rule, ...] = (ports, guarded)
