"""What must hold for the section `logs` of an inventory. Pure."""

from __future__ import annotations

from inventory.finding import Rule

RULES: tuple[Rule, ...] = ()
