"""Former addresses of bots that nginx still uses while the inventory changes them: another port, or TLS.

A run changes bots before the nginx hosts in front of them. If a bot listened only at its declared address,
nginx could not reach it until nginx itself is changed. Therefore bots also listen at a former address as long
as an nginx uses it; once all have moved, a second pass of the same run ends that. Both are read from the
hosts, so that the next run completes an interrupted one.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from deploys.component import Opening
from deploys.firewall.settings import FirewallSettings
from deploys.nginx.settings import bots_behind
from deploys.runtime.settings import FormerSettings, RuntimeSettings, internal_at, internal_listener
from inventory.model import Inventory
from provision.session import Assignment, Session

Uses = frozenset[tuple[str, str]]
"""What one nginx passes requests to: `http` or `https`, and `address:port`."""

Former = Mapping[str, tuple[FormerSettings, ...]]
"""By the host of a bot, where it keeps listening."""

# Of the configuration on the disk and of the one that nginx last started with: a run may have been cut off
# between the two.
ASK_FRONT = r"""
set -- etc/nginx/nginx.conf etc/nginx/clawd/upstreams.conf
uses() {
    scheme=http
    case $1 in *"proxy_pass https://"*) scheme=https ;; esac
    printf '%s\n' "$1" | sed -nE "s/^ *server +([^ ;{]+).*; *$/$scheme \1/p"
}
cd /
systemctl is-active --quiet nginx || exit 0
uses "$(cat "$@" 2>/dev/null)"
kept=var/lib/clawd/state/nginx.service.good/files.tar
[ ! -f "$kept" ] || uses "$(tar -xOf "$kept" "$@" 2>/dev/null)"
true
"""
ASK_BOT = "cat /etc/clawd/bot.json 2>/dev/null || true"


def find(session: Session, inventory: Inventory) -> Former:
    """Return where the bots of the run have to keep listening.

    Raises `HostError` for a host that does not answer.
    """
    bots = [host for host in session.hosts if "runtime" in inventory.hosts[host].roles]
    wanted = {front for bot in bots for front in fronts_of(inventory, bot)}
    asked = [front for front in session.reached if front in wanted]
    uses = session.everywhere(lambda host: parse(session.run(host, ASK_FRONT, timeout=30).stdout), asked)
    present = session.everywhere(lambda host: listeners(session.run(host, ASK_BOT, timeout=30).stdout), bots)
    found = {bot: former(inventory, bot, uses, present[bot]) for bot in bots}
    return {bot: places for bot, places in found.items() if places}


def ports(places: Former, bot: str) -> tuple[int, ...]:
    """Return the ports at which the bot of host `bot` keeps listening."""
    return tuple(place.port for place in places.get(bot, ()))


def explained(places: Former) -> str:
    """Return in words where bots keep listening, and what ends that."""
    lines = [
        f"{bot}: the bot still listens on port {place.port}, which nginx"
        f"{' of ' + ', '.join(place.sources) if place.sources else ''} uses"
        for bot, found in places.items()
        for place in found
    ]
    return "\n".join((*lines, "hint: run `up` for the hosts with nginx as well"))


def parse(output: str) -> Uses:
    """Read what a host says of its nginx."""
    return frozenset(
        (scheme, server) for scheme, _, server in (line.partition(" ") for line in output.splitlines())
    )


def listeners(text: str) -> tuple[tuple[int, bool], ...]:
    """Read from bot.json where the bot listens for other hosts: ports, and whether over TLS."""
    try:
        declared = json.loads(text)
        internal = [(int(declared["internal"]["port"]), True)] if "internal" in declared else []
        further = [(int(place["port"]), bool(place["tls"])) for place in declared.get("further", ())]
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()
    return tuple(internal + further)


def fronts_of(inventory: Inventory, bot: str) -> tuple[str, ...]:
    """Return the hosts whose nginx passes requests to the bot of host `bot`."""
    return tuple(front for front in inventory.with_role("nginx") if bot in bots_behind(inventory, front))


def former(
    inventory: Inventory, bot: str, uses: Mapping[str, Uses], present: Collection[tuple[int, bool]]
) -> tuple[FormerSettings, ...]:
    """Return where the bot of host `bot` has to keep listening, by what the nginx hosts in front of it use.

    Of one that is not in `uses`, because it was not asked, nothing is known: for it the bot keeps all that is
    `present`.
    """
    sources: dict[tuple[int, bool, bool], set[str]] = {}
    for front in fronts_of(inventory, bot):
        own = front == bot
        if front in uses:
            address = "127.0.0.1" if own else inventory.internal(bot)
            places = {(port, tls) for port, tls in _places(uses[front]).get(address, ())}
        else:
            places = set(present)
        for port, tls in places:
            if not _declared(inventory, front, bot, port, tls=tls):
                sources.setdefault((port, tls, own and not tls), set()).update(
                    () if own else (inventory.internal(front),)
                )
    everywhere = internal_at(inventory, bot, 1).host
    return tuple(
        FormerSettings(
            host="127.0.0.1" if loopback else everywhere, port=port, tls=tls, sources=tuple(sorted(hosts))
        )
        for (port, tls, loopback), hosts in sorted(sources.items())
    )


def _places(uses: Uses) -> dict[str, set[tuple[int, bool]]]:
    found: dict[str, set[tuple[int, bool]]] = {}
    for scheme, server in uses:
        address, _, port = server.rpartition(":")
        if port.isdecimal():
            found.setdefault(address.strip("[]"), set()).add((int(port), scheme == "https"))
    return found


def _declared(inventory: Inventory, front: str, bot: str, port: int, *, tls: bool) -> bool:
    """Return whether the bot listens there for that front in any case."""
    if not tls:
        return front == bot and port == inventory.bot.port
    internal = internal_listener(inventory, bot)
    return internal is not None and port == internal.port


def keeping(
    assignments: Mapping[str, Sequence[Assignment]], inventory: Inventory, places: Former
) -> dict[str, Sequence[Assignment]]:
    """Return `assignments` with the bots listening at `places` as well, and the firewall open there."""

    def kept(host: str, item: Assignment) -> Assignment:
        former = places.get(host, ())
        if not former:
            return item
        settings = item.settings
        if isinstance(settings, RuntimeSettings):
            return replace(item, settings=_with_former(inventory, host, settings, former))
        if isinstance(settings, FirewallSettings):
            openings = tuple(
                Opening(port=place.port, sources=place.sources, purpose="bot, from nginx, until it has moved")
                for place in former
                if place.sources
            )
            return replace(
                item, settings=settings.model_copy(update={"openings": (*settings.openings, *openings)})
            )
        return item

    return {host: tuple(kept(host, item) for item in items) for host, items in assignments.items()}


def _with_former(
    inventory: Inventory, host: str, settings: RuntimeSettings, former: tuple[FormerSettings, ...]
) -> RuntimeSettings:
    internal, places = settings.internal, former
    over_tls = [place for place in former if place.tls]
    if internal is None and over_tls:
        # What lends the further ones its certificate.
        internal = internal_at(inventory, host, over_tls[0].port)
        places = tuple(place for place in former if place is not over_tls[0])
    return settings.model_copy(update={"internal": internal, "former": places})
