"""Former addresses of bots that nginx still uses while the inventory changes them: another port, or TLS.

A run changes bots before the nginx hosts in front of them. If a bot listened only at its declared address,
nginx could not reach it until nginx itself is changed. Therefore bots also listen at a former address as long
as an nginx uses it; once all have moved, a second pass of the same run ends that. Both are read from the
hosts, so that the next run completes an interrupted one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from deploys.component import Opening
from deploys.firewall.settings import FirewallSettings
from deploys.ops.programs import program
from deploys.ops.shell import assignments
from deploys.registry import COMPONENTS
from deploys.runtime.settings import FormerSettings, RuntimeSettings, internal_at, internal_listener
from deploys.topology.bots import fronts_of
from inventory.errors import HostError, with_hint
from inventory.model import Inventory
from provision.assignment import Assignment
from provision.connection.session import Session

Uses = frozenset[tuple[str, str]]
"""What one nginx passes requests to: `http` or `https`, and `address:port`."""

LOOPBACK = ("127.0.0.1", "::1", "localhost")

Former = Mapping[str, tuple[FormerSettings, ...]]
"""By the host of a bot, where it keeps listening."""

MARK = "# Written by clawd-provision"
STARTED = "--- as nginx last started"

_ASK_FRONT = program("provision/rollout/scripts/ask_front.sh")
ASK_FRONT = assignments(mark=MARK, started=STARTED) + _ASK_FRONT
ASK_BOT = "cat /etc/clawd/bot.json 2>/dev/null || true"

_POOL = re.compile(r"^\s*upstream\s+(?:webhooks|console)\s*\{(.*?)^\s*\}", re.MULTILINE | re.DOTALL)
_SERVER = re.compile(r"^\s*server\s+([^\s;]+)", re.MULTILINE)
_OVER_TLS = re.compile(r"^\s*proxy_pass\s+https://(?:webhooks|console)\b", re.MULTILINE)


def find(session: Session, inventory: Inventory) -> Former:
    """Return where the bots of the run have to keep listening.

    Raises `HostError` for a host that does not answer, and for a place that the inventory gives to another
    listener: the bot could not be started there.
    """
    bots = [host for host in session.hosts if "runtime" in inventory.hosts[host].roles]
    uses, present = _asked(session, inventory, bots)
    found = {bot: former(inventory, bot, uses, present[bot]) for bot in bots}
    occupied = [line for bot in bots for line in conflicts(inventory, bot, found[bot])]
    if occupied:
        raise HostError(
            "\n".join(occupied),
            advice="change the port in two steps: first to one that nothing else uses, then to this one",
        )
    return {bot: places for bot, places in found.items() if places}


def lacking(session: Session, inventory: Inventory, bots: Collection[str]) -> tuple[str, ...]:
    """Return the hosts of `bots` that an nginx looks for where they do not listen.

    An interrupted run leaves such bots: they change first, because the others serve in the meantime.
    """
    known = [bot for bot in bots if "runtime" in inventory.hosts[bot].roles]
    uses, present = _asked(session, inventory, known)
    return tuple(bot for bot in known if lacks(inventory, bot, uses, present[bot]))


def lacks(
    inventory: Inventory, bot: str, uses: Mapping[str, Uses], present: Collection[tuple[int, bool]]
) -> bool:
    """Return whether an nginx on another host, by its `uses`, looks for a bot where it is not `present`."""
    return any(
        place not in present
        for front in fronts_of(inventory, bot)
        if front != bot
        for place in _places(uses.get(front, frozenset())).get(inventory.internal(bot), ())
    )


def _asked(
    session: Session, inventory: Inventory, bots: Collection[str]
) -> tuple[dict[str, Uses], dict[str, tuple[tuple[int, bool], ...]]]:
    """Return what the nginx hosts in front of `bots` use, and where the bots listen for other hosts."""
    wanted = {front for bot in bots for front in fronts_of(inventory, bot)}
    asked = [front for front in session.reached if front in wanted]
    uses = session.everywhere(lambda host: parse(session.run(host, ASK_FRONT, timeout=30).stdout), asked)
    present = session.everywhere(lambda host: listeners(session.run(host, ASK_BOT, timeout=30).stdout), bots)
    return uses, present


def conflicts(inventory: Inventory, bot: str, places: Sequence[FormerSettings]) -> tuple[str, ...]:
    """Return why the bot of host `bot` cannot listen at `places`: one line for each port with another use."""
    taken = {port: item.name for item in COMPONENTS for port in item.ports_for(inventory, bot)}
    return tuple(
        f"{bot}: port {place.port} cannot be given to {taken[place.port]}: nginx still reaches the bot there "
        f"{'over TLS' if place.tls else 'without TLS'}"
        for place in places
        # The listener without TLS, which then binds every address.
        if place.port in taken and (place.tls or place.port != inventory.bot.port)
    )


def ports(places: Former, bot: str) -> tuple[int, ...]:
    """Return the ports at which the bot of host `bot` keeps listening."""
    return tuple(place.port for place in places.get(bot, ()))


def explained(inventory: Inventory, hosts: Collection[str], places: Former) -> str:
    """Return where bots keep listening, with a hint what ends that; empty without places.

    `hosts` are those of the run. When it includes every nginx in front, `up` ends it in its second pass.
    """
    if not places:
        return ""
    moving = all(front in hosts for bot in places for front in fronts_of(inventory, bot))
    lines = [
        f"{bot}: the bot still listens on port {place.port}, which nginx"
        f"{' of ' + ', '.join(place.sources) if place.sources else ''} uses"
        for bot, found in places.items()
        for place in found
    ]
    advice = "run `up` for the hosts with nginx as well"
    if moving:
        advice = "a second pass of `up`, without `--tags`, ends this after nginx has moved"
    return with_hint("\n".join(lines), advice)


def parse(output: str) -> Uses:
    """Read the servers of the bots from the configurations that `ASK_FRONT` prints."""
    return frozenset(
        ("https" if _OVER_TLS.search(configuration) else "http", server)
        for configuration in output.split(STARTED)
        for pool in _POOL.findall(configuration)
        for server in _SERVER.findall(pool)
    )


def listeners(text: str) -> tuple[tuple[int, bool], ...]:
    """Read from bot.json where the bot listens for other hosts: ports, and whether over TLS."""
    try:
        declared = json.loads(text)
        listen = declared.get("listen", {"host": "127.0.0.1"})
        plain = [] if listen["host"] in LOOPBACK else [(int(listen["port"]), False)]
        internal = [(int(declared["internal"]["port"]), True)] if "internal" in declared else []
        further = [(int(place["port"]), bool(place["tls"])) for place in declared.get("further", ())]
    except (ValueError, TypeError, KeyError, AttributeError):
        return ()
    return tuple(place for place in plain + internal + further if 0 < place[0] < 1 << 16)


def former(
    inventory: Inventory, bot: str, uses: Mapping[str, Uses], present: Collection[tuple[int, bool]]
) -> tuple[FormerSettings, ...]:
    """Return where the bot of host `bot` has to keep listening, by what the nginx hosts in front of it use.

    Of one that is not in `uses`, because it was not asked, nothing is known: for it the bot keeps all that is
    `present`.
    """
    found: dict[tuple[int, bool], set[str]] = {}
    for front in fronts_of(inventory, bot):
        address = "127.0.0.1" if front == bot else inventory.internal(bot)
        places = _places(uses[front]).get(address, set()) if front in uses else set(present)
        for port, tls in places:
            if not _declared(inventory, front, bot, port, tls=tls):
                found.setdefault((port, tls), set()).add(front)
    # A port has one listener. Of two at which nginx hosts look for the bot, it is the one that is there.
    chosen = dict(sorted(found, key=lambda place: (place in present, place[1], place[0])))
    everywhere = internal_at(inventory, bot, 1).host
    return tuple(
        FormerSettings(
            host=everywhere if tls or found[port, tls] != {bot} else "127.0.0.1",
            port=port,
            tls=tls,
            sources=tuple(sorted(inventory.internal(front) for front in found[port, tls] if front != bot)),
        )
        for port, tls in sorted(chosen.items())
    )


def _places(uses: Uses) -> dict[str, set[tuple[int, bool]]]:
    found: dict[str, set[tuple[int, bool]]] = {}
    for scheme, server in uses:
        address, _, port = server.rpartition(":")
        if port.isdecimal() and 0 < int(port) < 1 << 16:
            found.setdefault(address.strip("[]"), set()).add((int(port), scheme == "https"))
    return found


def _declared(inventory: Inventory, front: str, bot: str, port: int, *, tls: bool) -> bool:
    """Return whether the bot listens there for that front in any case."""
    if not tls:
        return front == bot and port == inventory.bot.port
    internal = internal_listener(inventory, bot)
    return internal is not None and port == internal.port


def listening(assignments: Mapping[str, Sequence[Assignment]]) -> dict[str, Sequence[Assignment]]:
    """Return the part of `assignments` that decides where bots listen, which a second pass changes."""
    return {
        host: [item for item in items if isinstance(item.settings, RuntimeSettings | FirewallSettings)]
        for host, items in assignments.items()
    }


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
