"""What one pass of `up` leaves to the next: former addresses of bots, and former authorities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deploys.artifacts import Rotation
from provision.assignment import Assignment
from provision.connection.session import Session
from provision.rollout import authority_rotation, former_addresses
from provision.run import Run
from provision.steps.comparing import with_removals


@dataclass(frozen=True, slots=True)
class Left:
    """The rest that a pass of `up` leaves to the next: former addresses of bots, and former authorities.

    `changed` is whether the pass changed anything; a further one would find the same otherwise.
    """

    places: former_addresses.Former
    rotation: Rotation
    changed: bool = False

    def __bool__(self) -> bool:
        """Return whether anything is left."""
        return bool(self.places or self.rotation.former)

    @property
    def next_pass(self) -> str:
        """Return what the next pass does, for the user."""
        if not self.rotation.former:
            return "nginx has moved: in a second pass, the bots leave their former ports"
        if self.rotation.introducing:
            return "hosts trust the new authority as well: a second pass signs their certificates again"
        return "the new authority has signed all certificates: a last pass ends trust in the former one"

    @property
    def unfinished(self) -> str:
        """Return what remains until the next pass, for the user."""
        texts = []
        if self.places:
            texts.append("bots still listen on their former ports")
        if self.rotation.former:
            texts.append("hosts still trust the former authority")
        return ", and ".join(texts)


def explained(run: Run, hosts: Sequence[str], left: Left) -> str:
    """Return what is left on these hosts and what completes it, for the user; empty if nothing is."""
    inventory = run.loaded.inventory
    whole = set(inventory.hosts) <= set(hosts)
    return lines(
        former_addresses.explained(inventory, hosts, left.places),
        authority_rotation.explained(left.rotation, completes=whole),
    )


def present(
    run: Run, session: Session, assignments: Mapping[str, Sequence[Assignment]]
) -> tuple[dict[str, Sequence[Assignment]], Left]:
    """Return what the next pass of `up` would give the hosts, and what it would leave to further ones."""
    whole = with_removals(run, session, assignments)
    inventory = run.loaded.inventory
    places = former_addresses.find(session, inventory)
    left = Left(places, authority_rotation.find(session, run.loaded))
    return former_addresses.keeping(whole, inventory, places), left


def lines(*texts: str) -> str:
    """Return those of the texts that are not empty, one below the other."""
    return "\n".join(filter(None, texts))
