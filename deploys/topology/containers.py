"""Which hosts run containers, and which have Docker."""

from __future__ import annotations

from inventory.model import Inventory


def runs_containers(inventory: Inventory, host: str) -> bool:
    """Return whether engine and bot of `host` run in containers."""
    return inventory.runtime.run_with == "docker" and "runtime" in inventory.hosts[host].roles


def has_docker(inventory: Inventory, host: str) -> bool:
    """Return whether `host` has Docker: as declared, else where it runs containers."""
    enabled = inventory.docker.enabled
    return runs_containers(inventory, host) if enabled is None else enabled
