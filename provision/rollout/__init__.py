"""The order in which hosts change, draining of bots, and rollback."""
