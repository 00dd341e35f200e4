"""Kinds of log lines that a host has. Pure."""

from __future__ import annotations

from typing import Literal

from inventory.model import Inventory

Dataset = Literal["bot", "engine", "nginx_access", "nginx_error", "audit"]
"""The kind of a log line; each has the data stream `logs-clawd.<dataset>-default`."""


def datasets_of(inventory: Inventory, host: str) -> tuple[Dataset, ...]:
    """Return the kinds that `host` sends. Every host sends logins and sudo."""
    roles = inventory.hosts[host].roles
    of_bot: tuple[Dataset, ...] = ("bot", "engine") if "runtime" in roles else ()
    of_nginx: tuple[Dataset, ...] = ("nginx_access", "nginx_error") if "nginx" in roles else ()
    return (*of_bot, *of_nginx, "audit")
