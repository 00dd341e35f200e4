"""Settings of the exporters: what a host reports to Prometheus."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploys.component import MACHINE_ROOT, ComponentSettings, Need, Opening
from deploys.resources import HostResources
from deploys.topology import bots
from deploys.topology.addresses import canonical
from deploys.topology.bots import https_address, public_name
from deploys.topology.database import has_database
from deploys.topology.monitoring import (
    BLACKBOX_PORT,
    NGINX_PORT,
    NODE_PORT,
    POSTGRES_PORT,
    monitoring_host,
    watched_from,
)
from inventory.model import Inventory
from inventory.values import MIB


class Front(ComponentSettings):
    """An nginx that is probed from the monitoring host as its clients reach it."""

    host: str
    address: str = Field(description="`address:port` of HTTPS.")
    name: str = Field(description="Name in its certificate and in requests.")


class ExportersSettings(ComponentSettings):
    """The exporters of one host."""

    listen: str = Field("127.0.0.1", description="Address to listen on; all when empty.")
    over_tls: bool = Field(
        False, description="Whether they are scraped over TLS with certificates on both sides."
    )
    client: bool = Field(False, description="Whether this host scrapes others, with a certificate.")
    nginx: bool = False
    database: bool = False
    fronts: tuple[Front, ...] = Field((), description="Fronts that this host probes: on the monitoring host.")
    project: str = Field("clawd", description="Project whose authority signed the fronts' certificates.")
    name: str = Field("127.0.0.1", description="Name of this host in its own certificate.")
    trust: Literal["own", "public", "unknown"] = Field(
        "own",
        description="Authority that the fronts' certificates are checked by: the project's, or public ones. "
        "With one that this host does not know, only their expiry is monitored.",
    )
    root: str = MACHINE_ROOT


def probed_fronts(inventory: Inventory) -> tuple[Front, ...]:
    """Return every nginx that passes requests to a bot."""
    return tuple(
        Front(
            host=front,
            address=https_address(inventory, front),
            name=canonical(public_name(inventory, front)),
        )
        for front in bots.fronts(inventory)
    )


def settings_for(inventory: Inventory, host: str) -> ExportersSettings | None:
    """Return the exporters of `host`; `None` without a monitoring host."""
    watcher = monitoring_host(inventory)
    if watcher is None:
        return None
    watches = host == watcher
    return ExportersSettings(
        listen="127.0.0.1" if watches else "",
        over_tls=not watches,
        client=watches and len(inventory.hosts) > 1,
        nginx=bool(bots.bots_behind(inventory, host)),
        database=has_database(inventory, host),
        fronts=probed_fronts(inventory) if watches else (),
        project=inventory.project,
        name=canonical(inventory.internal(host)),
        trust=_trust(inventory),
    )


def openings_for(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """Return the exporters' ports, open to the monitoring host only."""
    settings = settings_for(inventory, host)
    sources = watched_from(inventory, host)
    if settings is None or not sources:
        return ()
    ports = {
        NODE_PORT: "metrics of the host",
        **({NGINX_PORT: "metrics of nginx"} if settings.nginx else {}),
        **({POSTGRES_PORT: "metrics of PostgreSQL"} if settings.database else {}),
    }
    return tuple(Opening(port=port, sources=sources, purpose=purpose) for port, purpose in ports.items())


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return one process for each exporter."""
    settings = settings_for(inventory, host)
    if settings is None:
        return ()
    parts = {
        "node": 32,
        **({"nginx": 24} if settings.nginx else {}),
        **({"PostgreSQL": 32} if settings.database else {}),
        **({"blackbox": 32} if settings.fronts else {}),
    }
    memory = " + ".join(f"{name} {mib} MiB" for name, mib in parts.items())
    disk = 18 * len(parts)
    return (
        Need(
            "exporters",
            memory=sum(parts.values()) * MIB,
            disk=disk * MIB,
            how=f"memory: {memory}; disk: {len(parts)} programs of 18 MiB",
        ),
    )


def _trust(inventory: Inventory) -> Literal["own", "public", "unknown"]:
    tls = inventory.tls
    if tls.mode == "own-ca":
        return "own"
    return "public" if tls.mode == "acme" and tls.acme.authority is None else "unknown"


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return one port for each exporter."""
    settings = settings_for(inventory, host)
    if settings is None:
        return ()
    there = {
        NODE_PORT: True,
        NGINX_PORT: settings.nginx,
        POSTGRES_PORT: settings.database,
        BLACKBOX_PORT: bool(settings.fronts),
    }
    return tuple(port for port, is_there in there.items() if is_there)
