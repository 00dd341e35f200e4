"""What a component that was dropped leaves: its data, and the account that they belong to."""

from __future__ import annotations

KEPT: dict[str, frozenset[str]] = {"app": frozenset(), "log": frozenset()}
