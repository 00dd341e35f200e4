"""Which ports of a host are open, and to whom."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploys.component import ComponentSettings
from deploys.nginx.settings import bots_behind
from inventory.model import Inventory, Network, Port


class Opening(ComponentSettings):
    """One open port."""

    port: Port
    protocol: Literal["tcp", "udp"] = "tcp"
    sources: tuple[str, ...] = Field(
        (), description="Networks, addresses or host names; everyone when empty."
    )
    purpose: str = Field("declared", pattern=r'^[^"\\\n]{1,100}$', description="Stands beside the rule.")


class FirewallSettings(ComponentSettings):
    """What may reach one host, besides answers to what it asked for, loopback and ICMP."""

    ssh_port: Port | None = Field(None, description="Of sshd; the one in use when absent.")
    management: tuple[Network, ...] = Field((), description="Networks that may use SSH; all when empty.")
    openings: tuple[Opening, ...] = ()


def settings_for(inventory: Inventory, host: str) -> FirewallSettings | None:
    """What may reach `host`: what its components serve, and what is declared."""
    if not inventory.firewall.enabled:
        return None
    return FirewallSettings(
        ssh_port=inventory.base.ssh_port,
        management=inventory.firewall.management,
        openings=(*_nginx(inventory, host), *_bot(inventory, host), *_declared(inventory)),
    )


def _nginx(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    if not bots_behind(inventory, host):
        return ()
    nginx = inventory.nginx
    return (Opening(port=nginx.http_port, purpose="http"), Opening(port=nginx.https_port, purpose="https"))


def _bot(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """The bot's port, for the other hosts whose nginx passes requests to it."""
    proxies = tuple(
        inventory.hosts[name].address
        for name in inventory.with_role("nginx")
        if name != host and host in bots_behind(inventory, name)
    )
    return (Opening(port=inventory.bot.port, sources=proxies, purpose="bot, from nginx"),) if proxies else ()


def _declared(inventory: Inventory) -> tuple[Opening, ...]:
    return tuple(
        Opening(port=item.port, protocol=item.protocol, sources=tuple(str(network) for network in item.from_))
        for item in inventory.firewall.open
    )
