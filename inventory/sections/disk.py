"""The data disk of a host, as declared."""

from __future__ import annotations

from inventory.declared import Declared


class Disk(Declared):
    """A blank data disk: models, database and logs go there."""
