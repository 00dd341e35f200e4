"""Rules between the values of an inventory, from `RULES` of each module here. All are pure.

The rules of `secrets` are separate, because they apply only when secrets were resolved.
"""

from __future__ import annotations

from inventory.rule_findings import InventoryRule
from inventory.rules import (
    database,
    disk,
    docker,
    hardening,
    hosts,
    logs,
    monitoring,
    nginx,
    nvidia,
    secrets,
    services,
    tls,
    unused,
)

__all__ = ["RULES", "SECTIONS", "secrets"]

SECTIONS = (hosts, services, database, disk, docker, hardening, logs, monitoring, nginx, nvidia, tls, unused)
RULES: tuple[InventoryRule, ...] = tuple(rule for module in SECTIONS for rule in module.RULES)
