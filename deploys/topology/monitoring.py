"""Which host monitors the others, how it reaches what it scrapes there, and which bots announce alerts."""

from __future__ import annotations

from typing import Literal

from deploys.topology.addresses import host_and_port
from inventory.model import Inventory

NODE_PORT, NGINX_PORT, BLACKBOX_PORT, POSTGRES_PORT = 9100, 9113, 9115, 9187
"""The exporters' ports, as Debian's packages and the list of Prometheus have them."""
PROMETHEUS_PORT, ALERTMANAGER_PORT = 9090, 9093
"""Ports on loopback of the monitoring host."""


def monitoring_host(inventory: Inventory) -> str | None:
    """Return the host that monitors all others; `None` when there is none."""
    return next(iter(inventory.with_role("monitoring")), None)


def watched_from(inventory: Inventory, host: str) -> tuple[str, ...]:
    """Return the address from which `host` is monitored over the network; none if no other host does so."""
    watcher = monitoring_host(inventory)
    return () if watcher in (None, host) else (inventory.internal(str(watcher)),)


def scraped_at(inventory: Inventory, host: str, port: int) -> str:
    """Return the `address:port` by which the monitoring host reaches something on `host`."""
    own = host == monitoring_host(inventory)
    return host_and_port("127.0.0.1" if own else inventory.internal(host), port)


def scrape_scheme(inventory: Inventory, host: str) -> Literal["http", "https"]:
    """Return the scheme by which the monitoring host reaches something on `host`: TLS to other hosts."""
    return "https" if watched_from(inventory, host) else "http"


def scraped_bot_port(inventory: Inventory, host: str) -> int:
    """Return the port by which the monitoring host reaches the bot of `host`."""
    return inventory.bot.internal_port if watched_from(inventory, host) else inventory.bot.port


def announcing_bots(inventory: Inventory) -> tuple[str, ...]:
    """Return the runtime hosts whose bots receive alerts from Alertmanager.

    All of them where they share a database: the first that stores a notification announces it, and the others
    recognize it. Bots with an inbox of their own would each announce it, so then only the first receives it.
    """
    bots = tuple(inventory.with_role("runtime"))
    return bots if inventory.database is not None else bots[:1]
