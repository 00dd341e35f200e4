"""Which bots are behind which nginx, by which address, port and TLS it reaches them, and where they drain.

A front is a host whose nginx passes requests to bots.
"""

from __future__ import annotations

from collections.abc import Sequence

from deploys.topology.addresses import bracketed, host_and_port
from deploys.topology.monitoring import watched_from
from inventory.model import Inventory


def bots_behind(inventory: Inventory, front: str) -> tuple[str, ...]:
    """Return the hosts whose bots the nginx of `front` passes requests to.

    With a database that the bots share, all of them. Without, the nginx of a host with both roles serves its
    own bot first, and shares with the other nginx hosts only the bots that have no nginx on their host. An
    nginx left with none of these serves all.
    """
    if "nginx" not in inventory.hosts[front].roles:
        return ()
    runtimes = tuple(inventory.with_role("runtime"))
    if inventory.database is not None:
        return runtimes
    alone = tuple(bot for bot in runtimes if "nginx" not in inventory.hosts[bot].roles)
    own = (front,) if front in runtimes else ()
    return own + alone or runtimes


def fronts(inventory: Inventory) -> tuple[str, ...]:
    """Return every host whose nginx passes requests to a bot."""
    return tuple(host for host in inventory.with_role("nginx") if bots_behind(inventory, host))


def fronts_of(inventory: Inventory, bot: str) -> tuple[str, ...]:
    """Return the hosts whose nginx passes requests to the bot of host `bot`."""
    return tuple(front for front in fronts(inventory) if bot in bots_behind(inventory, front))


def drained_at(inventory: Inventory, bot: str) -> tuple[str, ...]:
    """Return the fronts where the bot of host `bot` is drained: those that have another bot to serve."""
    return tuple(front for front in fronts_of(inventory, bot) if len(bots_behind(inventory, front)) > 1)


def bots_over_tls(inventory: Inventory, front: str) -> bool:
    """Return whether the nginx of `front` reaches its bots over TLS: all, once one is on another host.

    nginx uses one protocol for all servers of a group, so its own bot is reached the same way.
    """
    return any(bot != front for bot in bots_behind(inventory, front))


def upstream(inventory: Inventory, front: str, bot: str) -> str:
    """Return `address:port` of the bot of host `bot` for the nginx of `front`; loopback for its own bot."""
    port = inventory.bot.internal_port if bots_over_tls(inventory, front) else inventory.bot.port
    return host_and_port("127.0.0.1" if bot == front else inventory.internal(bot), port)


def known_upstreams(
    inventory: Inventory, front: str, bot: str, former: Sequence[int] = ()
) -> tuple[str, ...]:
    """Return every `address:port` by which the nginx of `front` may know a bot: the declared one first.

    The others are those of earlier inventories, with a bot on another host or none, and of ports `former`.
    """
    address = "127.0.0.1" if bot == front else inventory.internal(bot)
    ports = (inventory.bot.internal_port, inventory.bot.port, *former)
    found = (upstream(inventory, front, bot), *(host_and_port(address, port) for port in ports))
    return tuple(dict.fromkeys(found))


def serves_other_hosts(inventory: Inventory, bot: str) -> bool:
    """Return whether nginx or Prometheus of another host needs to reach the bot of host `bot`.

    Also true where only its own nginx does so over TLS, as it reaches bots of other hosts.
    """
    proxied = any(bots_over_tls(inventory, front) for front in fronts_of(inventory, bot))
    return proxied or bool(watched_from(inventory, bot))


def public_url(inventory: Inventory, bot: str) -> str | None:
    """Return the public URL of the bot of host `bot`: the name of a front, or `None` without a front."""
    proxies = fronts_of(inventory, bot)
    if not proxies:
        return None
    name = public_name(inventory, bot if bot in proxies else proxies[0])
    port = inventory.nginx.https_port
    return f"https://{bracketed(name)}" if port == 443 else f"https://{host_and_port(name, port)}"


def public_name(inventory: Inventory, front: str) -> str:
    """Return the first host name of the certificate, else the address of the host `front`."""
    names = [name for name in inventory.tls.names if not name.startswith("*")]
    return names[0] if names else inventory.hosts[front].address


def https_address(inventory: Inventory, front: str) -> str:
    """Return the `address:port` at which the other hosts reach the nginx of `front`."""
    return host_and_port(inventory.internal(front), inventory.nginx.https_port)


def webhook_registrar(inventory: Inventory) -> str | None:
    """Return the runtime host that registers Telegram's webhook: the first that has an nginx, else the first.

    If each registered its own, the last to start would receive all messages instead of the others.
    """
    runtimes = inventory.with_role("runtime")
    with_nginx = (name for name, declared in runtimes.items() if "nginx" in declared.roles)
    return next(with_nginx, next(iter(runtimes), None))
