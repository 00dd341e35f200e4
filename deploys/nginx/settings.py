"""Which requests a host's nginx accepts, and to which bots it passes them."""

from __future__ import annotations

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings, Need, Opening
from deploys.resources import HostResources
from deploys.runtime.console import allowed, console_secret, has_page
from deploys.tls.certificate import leaf_of, names_of
from deploys.tls.settings import ProvidedSettings
from deploys.topology.addresses import canonical
from deploys.topology.bots import bots_behind, bots_over_tls, public_name, upstream
from inventory.model import Inventory
from inventory.rules.nginx import STATUS_PORT
from inventory.rules.secrets import OFFICIAL_TELEGRAM
from inventory.sections.nginx import Limit
from inventory.types import BodySize, Network

TELEGRAM_RANGES = ("149.154.160.0/20", "91.108.4.0/22")
"""Networks from which Telegram calls webhooks: https://core.telegram.org/bots/webhooks"""
MEMORY = 64 << 20


class PathSettings(ComponentSettings):
    """Limits of clients on one path; the defaults of an inventory are in `inventory.sections.nginx`."""

    requests_per_second: int = Field(20, description="Per client address.")
    burst: int = Field(40, description="Further requests accepted at once.")
    allow: tuple[str, ...] = Field((), description="Networks that may use it; everyone when empty.")


class NginxSettings(ComponentSettings):
    """The nginx of one host."""

    https_port: int = 443
    http_port: int = 80
    upstreams: tuple[str, ...] = Field(min_length=1, description="`address:port` of each bot.")
    bots_over_tls: bool = Field(
        False, description="Whether the bots are reached over TLS with certificates on both sides."
    )
    project: str = Field("clawd", description="Part of the name of the authority of these certificates.")
    public_name: str = Field("", description="The name that clients use: one of its certificate.")
    names: tuple[str, ...] = Field(
        (), description="Names and addresses that it answers to, as in certificates; all when empty."
    )
    questions: SecretStr | None = Field(None, description="Signs questions of `verify`; else none.")
    name: str = Field("127.0.0.1", description="Name of this host in its certificate for the bots.")
    shared: bool = Field(
        False, description="Whether the bots share a database, so that any may take any request."
    )
    telegram: PathSettings = PathSettings()
    feishu: PathSettings = PathSettings()
    console: PathSettings = PathSettings()
    page: bool = Field(False, description="Whether the bots serve the page in the browser at /console/.")
    health: PathSettings = PathSettings()
    connections: int = Field(128, description="Most open connections of one client address.")
    trusted_proxies: tuple[str, ...] = ()
    max_body: BodySize = "1m"
    maintenance: bool = False
    retry_after: int = Field(60, description="Value of Retry-After during maintenance, in seconds.")


def settings_for(inventory: Inventory, host: str) -> NginxSettings | None:
    """Return the nginx of `host`; `None` without the role `nginx`, or without a bot behind it."""
    bots = bots_behind(inventory, host)
    if not bots:
        return None
    nginx = inventory.nginx
    limits, allow = nginx.limits, nginx.allow
    telegram = (*(TELEGRAM_RANGES if _limits_telegram(inventory) else ()), *_texts(allow.telegram))

    def path(limit: Limit, allowed: tuple[str, ...] = ()) -> PathSettings:
        rate = limit.requests_per_second or nginx.requests_per_second
        burst = 2 * rate if limit.burst is None else limit.burst
        return PathSettings(requests_per_second=rate, burst=burst, allow=allowed)

    return NginxSettings(
        https_port=nginx.https_port,
        http_port=nginx.http_port,
        upstreams=tuple(upstream(inventory, host, bot) for bot in bots),
        bots_over_tls=bots_over_tls(inventory, host),
        project=inventory.project,
        public_name=canonical(public_name(inventory, host)),
        names=answers_to(inventory, host),
        questions=console_secret(inventory),
        name=canonical(inventory.internal(host)),
        shared=inventory.database is not None,
        telegram=path(limits.telegram, telegram),
        feishu=path(limits.feishu, _texts(allow.feishu)),
        console=path(limits.console, allowed(inventory, _texts(allow.console))),
        page=has_page(inventory),
        health=path(limits.health),
        connections=nginx.connections,
        trusted_proxies=_texts(nginx.trusted_proxies),
        max_body=nginx.max_body,
        maintenance=nginx.maintenance,
        retry_after=nginx.retry_after,
    )


def openings_for(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """Return HTTP and HTTPS, open to everyone."""
    if not bots_behind(inventory, host):
        return ()
    nginx = inventory.nginx
    # Only the kernel knows connections without a request yet.
    limited = {"connections": nginx.connections, "unlimited": nginx.trusted_proxies}
    return (
        Opening(port=nginx.http_port, purpose="http", **limited),
        Opening(port=nginx.https_port, purpose="https", **limited),
    )


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return the port of the status page, on loopback."""
    return (STATUS_PORT,) if bots_behind(inventory, host) else ()


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return the memory of nginx: its workers, their zones, and TLS sessions."""
    if not bots_behind(inventory, host):
        return ()
    return (Need("nginx", memory=MEMORY, how="64M: workers, 10M of TLS sessions, 20M of clients' limits"),)


def answers_to(inventory: Inventory, front: str) -> tuple[str, ...]:
    """Return every name and address by which clients may address the nginx of `front`.

    These are the names of its certificate, and the host's addresses, which load balancers use to check it.
    """
    host, tls = inventory.hosts[front], inventory.tls
    names = [*tls.names, host.address, inventory.internal(front)]
    if tls.mode == "provided" and tls.provided:
        leaf = leaf_of(ProvidedSettings(certificate=tls.provided.certificate, key=tls.provided.key))
        names += sorted(names_of(leaf))
    return tuple(dict.fromkeys(map(canonical, names)))


def _texts(networks: tuple[Network, ...]) -> tuple[str, ...]:
    return tuple(map(str, networks))


def _limits_telegram(inventory: Inventory) -> bool:
    """Return whether only Telegram's documented networks may call its webhook.

    By default, unless another server takes the place of Telegram's, which calls from elsewhere.
    """
    declared, telegram = inventory.nginx.allow.telegram_ranges, inventory.channels.telegram
    if declared is not None:
        return declared
    return telegram is not None and telegram.api_base.rstrip("/") == OFFICIAL_TELEGRAM
