"""No port of a host is wanted by two, found from the inventory alone. Pure.

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


RULES: tuple[Rule, ...] = (ports,)
