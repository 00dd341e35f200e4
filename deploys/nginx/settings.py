"""Which requests a host's nginx takes, and to which bots it passes them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from pydantic import Field

from deploys.component import ComponentSettings, Opening
from inventory.model import Inventory


class NginxSettings(ComponentSettings):
    """One nginx."""

    https_port: int
    http_port: int
    upstreams: tuple[str, ...] = Field(min_length=1, description="`address:port` of each bot.")
    requests_per_second: int = Field(description="Per client address and path.")
    max_body: str


def settings_for(inventory: Inventory, host: str) -> NginxSettings | None:
    """What `host` serves to the world; `None` without the role `nginx`, or with no bot to pass to."""
    bots = bots_behind(inventory, host)
    if not bots:
        return None
    return NginxSettings(
        https_port=inventory.nginx.https_port,
        http_port=inventory.nginx.http_port,
        upstreams=tuple(upstream_address(inventory, host, bot) for bot in bots),
        requests_per_second=inventory.nginx.requests_per_second,
        max_body=inventory.nginx.max_body,
    )


def openings_for(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """HTTP and HTTPS, for everyone."""
    if not bots_behind(inventory, host):
        return ()
    nginx = inventory.nginx
    return (Opening(port=nginx.http_port, purpose="http"), Opening(port=nginx.https_port, purpose="https"))


def bots_behind(inventory: Inventory, host: str) -> tuple[str, ...]:
    """The hosts whose bots the nginx of `host` passes requests to, its own first.

    A host that has both roles stands for itself: its nginx serves its own bot, and shares with the other
    nginx hosts only the bots that have no nginx beside them. An nginx left with none of these serves all.
    """
    if "nginx" not in inventory.hosts[host].roles:
        return ()
    runtimes = tuple(inventory.with_role("runtime"))
    alone = tuple(bot for bot in runtimes if "nginx" not in inventory.hosts[bot].roles)
    own = (host,) if host in runtimes else ()
    return own + alone or runtimes


def upstream_address(inventory: Inventory, front: str, bot: str) -> str:
    """`address:port` by which the nginx of `front` knows the bot of the host `bot`."""
    address = "127.0.0.1" if bot == front else inventory.internal(bot)
    return authority(address, inventory.bot.port)


def own_proxy_only(inventory: Inventory, host: str) -> bool:
    """Whether no other host's nginx passes requests to the bot of `host`."""
    others = (name for name in inventory.with_role("nginx") if name != host)
    return not any(host in bots_behind(inventory, other) for other in others)


def public_url(inventory: Inventory, host: str) -> str | None:
    """Where the world reaches the bot of `host`: the first name of the certificate, else nginx's address.

    `None` when no nginx passes anything to it.
    """
    proxies = [name for name in inventory.with_role("nginx") if host in bots_behind(inventory, name)]
    if not proxies:
        return None
    proxy = host if host in proxies else proxies[0]
    names = [name for name in inventory.tls.names if not name.startswith("*")]
    name = names[0] if names else inventory.hosts[proxy].address
    port = inventory.nginx.https_port
    return f"https://{_bracketed(name)}" if port == 443 else f"https://{authority(name, port)}"


def authority(address: str, port: int) -> str:
    """`address:port` as URLs and nginx write it, with brackets around an IPv6 address."""
    return f"{_bracketed(address)}:{port}"


def _bracketed(address: str) -> str:
    try:
        return f"[{address}]" if isinstance(ip_address(address), IPv6Address) else address
    except ValueError:
        return address
