"""NVIDIA drivers, as declared."""

from __future__ import annotations

from inventory.declared import Declared


class Nvidia(Declared):
    """Drivers and container toolkit of hosts with an NVIDIA GPU."""
