"""What must hold between the values of an inventory: `RULES` of each module here, gathered. Pure.

Those of `secrets` are apart: they are for secrets that were read.
"""

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
    secrets,
    services,
    tls,
    unused,
)

__all__ = ["RULES", "SECTIONS", "secrets"]

SECTIONS = (hosts, services, database, disk, docker, hardening, logs, monitoring, nginx, nvidia, tls, unused)
RULES: tuple[Rule, ...] = tuple(rule for module in SECTIONS for rule in module.RULES)
