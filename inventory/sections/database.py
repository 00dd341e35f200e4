"""PostgreSQL, as declared."""

from __future__ import annotations

from inventory.declared import Declared


class Database(Declared):
    """PostgreSQL, which several runtime hosts share."""
