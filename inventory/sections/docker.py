"""Docker, as declared."""

from __future__ import annotations

from inventory.declared import Declared


class Docker(Declared):
    """The Docker engine."""
