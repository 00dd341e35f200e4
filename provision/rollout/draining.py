"""Draining of bots: nginx hosts in front of a bot stop sending it requests, and send them again.

Which hosts are drained: `provision.rollout.stages.stages`. At which nginx hosts:
`deploys.topology.bots.drained_at`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from deploys.ops.programs import program
from deploys.ops.shell import assignments
from deploys.topology.bots import drained_at, fronts_of, known_upstreams
from inventory.errors import HostError
from inventory.model import Inventory
from provision.connection.session import Session
from provision.local.concurrency import for_each

UPSTREAM = "/usr/local/lib/clawd/upstream"
"""The program of the nginx component that drains and restores bots."""


def fronts_beside(inventory: Inventory, hosts: Collection[str]) -> tuple[str, ...]:
    """Return the nginx hosts in front of these hosts' bots that are not among the hosts.

    A run drains bots there, and asks where nginx reaches them.
    """
    found = [front for host in hosts for front in fronts_of(inventory, host)]
    return tuple(front for front in dict.fromkeys(found) if front not in hosts)


_DRAIN = program("provision/rollout/scripts/drain.sh")
_RESTORE = program("provision/rollout/scripts/restore.sh")


def _drain(names: Sequence[str], seconds: int) -> str:
    """Return the script that drains a bot at a front."""
    return assignments(upstream=UPSTREAM, names=" ".join(names), seconds=seconds) + _DRAIN


def _restore(names: Sequence[str]) -> str:
    """Return the script that restores a bot at a front."""
    return assignments(upstream=UPSTREAM, names=" ".join(names)) + _RESTORE


class Drain:
    """The draining of one bot at every nginx in front of it."""

    def __init__(
        self, session: Session, inventory: Inventory, bot: str, former_ports: Sequence[int] = ()
    ) -> None:
        self.bot = bot
        self._session = session
        self._wait = inventory.rollout.drain_seconds
        self._names = {
            front: known_upstreams(inventory, front, bot, former_ports)
            for front in drained_at(inventory, bot)
            if front in session.reached
        }

    def begin(self) -> None:
        """Stop new requests to the bot and wait for those in progress.

        Raises `HostError` when a front cannot drain it.
        """

        def drain(front: str) -> None:
            done = self._session.run(front, _drain(self._names[front], self._wait), timeout=self._wait + 60)
            if not done.succeeded:
                raise HostError(
                    f"cannot drain {self.bot} at {front}: {done.stderr.strip()}",
                    advice="nothing was changed there; check the other bots, which must serve in the "
                    "meantime",
                )

        for_each(self._names, drain)

    def end(self) -> tuple[str, ...]:
        """Send requests to the bot again; return one message for each front that failed."""

        def restore(front: str) -> str:
            done = self._session.run(front, _restore(self._names[front]), timeout=60)
            problem = f"cannot restore {self.bot} at {front}: {done.stderr.strip()}; run `up` again"
            return "" if done.succeeded else problem

        return tuple(filter(None, for_each(self._names, restore).values()))
