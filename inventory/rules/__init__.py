"""What must hold between the values of an inventory: `RULES` of each module here, gathered. Pure."""

from __future__ import annotations

from inventory.finding import Rule
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
    services,
    tls,
)

SECTIONS = (hosts, services, database, disk, docker, hardening, logs, monitoring, nginx, nvidia, tls)
RULES: tuple[Rule, ...] = tuple(rule for module in SECTIONS for rule in module.RULES)
