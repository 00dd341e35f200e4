"""What a host has of docker."""

from __future__ import annotations

from deploys.component import ComponentSettings
from inventory.model import Inventory


def settings_for(inventory: Inventory, host: str) -> ComponentSettings | None:
    """Nothing yet."""
    return None
