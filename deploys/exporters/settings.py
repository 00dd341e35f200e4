"""Settings of the exporters: what a host reports to Prometheus."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploys.component import ComponentSettings, Need, Opening
from deploys.nginx.settings import authority, bots_behind
from deploys.nvidia.settings import ROOT
from deploys.resources import HostResources
from deploys.tls.settings import canonical
from inventory.model import Inventory

NODE, NGINX, BLACKBOX, POSTGRES = 9100, 9113, 9115, 9187
"""The exporters' ports, as Debian's packages and the list of Prometheus have them."""
MIB = 1 << 20


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
    trust: Literal["own", "public", "nobody"] = Field(
        "own",
        description="Authority that the fronts' certificates are checked by: the project's, or public ones. "
        "With one that this host does not know, only their expiry is monitored.",
    )
    root: str = ROOT


def monitoring_host(inventory: Inventory) -> str | None:
    """Return the host that monitors all others; `None` when there is none."""
    return next(iter(inventory.with_role("monitoring")), None)


def watched_from(inventory: Inventory, host: str) -> tuple[str, ...]:
    """Return the address from which `host` is monitored over the network; none if no other host does so."""
    watcher = monitoring_host(inventory)
    return () if watcher in (None, host) else (inventory.internal(str(watcher)),)


def target(inventory: Inventory, host: str, port: int) -> str:
    """Return the `address:port` by which the monitoring host reaches something on `host`."""
    own = host == monitoring_host(inventory)
    return authority("127.0.0.1" if own else inventory.internal(host), port)


def fronts(inventory: Inventory) -> tuple[Front, ...]:
    """Return every nginx that passes requests to a bot."""
    served = [host for host in inventory.with_role("nginx") if bots_behind(inventory, host)]
    return tuple(
        Front(
            host=host,
            address=authority(inventory.internal(host), inventory.nginx.https_port),
            name=_certificate_name(inventory, host),
        )
        for host in served
    )


def scheme(inventory: Inventory, host: str) -> Literal["http", "https"]:
    """Return the scheme by which the monitoring host reaches something on `host`: TLS to other hosts."""
    return "https" if watched_from(inventory, host) else "http"


def bot_port(inventory: Inventory, host: str) -> int:
    """Return the port by which the monitoring host reaches the bot of `host`."""
    return inventory.bot.internal_port if watched_from(inventory, host) else inventory.bot.port


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
        nginx=bool(bots_behind(inventory, host)),
        database=_has_database(inventory, host),
        fronts=fronts(inventory) if watches else (),
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
        NODE: "metrics of the host",
        **({NGINX: "metrics of nginx"} if settings.nginx else {}),
        **({POSTGRES: "metrics of PostgreSQL"} if settings.database else {}),
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


def _trust(inventory: Inventory) -> Literal["own", "public", "nobody"]:
    tls = inventory.tls
    if tls.mode == "own-ca":
        return "own"
    return "public" if tls.mode == "acme" and tls.acme.authority is None else "nobody"


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return one port for each exporter."""
    settings = settings_for(inventory, host)
    if settings is None:
        return ()
    there = {NODE: True, NGINX: settings.nginx, POSTGRES: settings.database, BLACKBOX: bool(settings.fronts)}
    return tuple(port for port, is_there in there.items() if is_there)


def _certificate_name(inventory: Inventory, host: str) -> str:
    names = [name for name in inventory.tls.names if not name.startswith("*")]
    return canonical(names[0] if names else inventory.hosts[host].address)


def _has_database(inventory: Inventory, host: str) -> bool:
    database = inventory.database
    return database is not None and database.url is None and "database" in inventory.hosts[host].roles
