"""The models of the bots as they use them now, and the changes of an inventory that give them shares."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from deploys.runtime.config import ASK_ROUTES
from inventory.editing import InventoryChange
from inventory.errors import UNREADABLE, ClawdError, HostError
from inventory.model import Inventory
from provision.connection.session import Session

STEPS = (5, 25, 100)
"""Percentages of conversations that `model promote` goes through."""


@dataclass(frozen=True, slots=True)
class UsedModel:
    """A model as the bot of a host uses it. `stopped` is why it lost its share; empty if it did not."""

    name: str
    model: str
    share: int
    breaker: str
    answering: int
    waiting: int
    judged: int
    stopped: str


@dataclass(frozen=True, slots=True)
class UsedRoutes:
    """The table of routes as the bot of a host uses it. `problem`: why it cannot read the present one."""

    version: int
    problem: str
    models: tuple[UsedModel, ...]


def read(session: Session, host: str, port: int) -> UsedRoutes:
    """Return the routes of the bot of `host`; raise `HostError` when it does not answer."""
    done = session.run(host, f"/usr/bin/python3 -c {shlex.quote(ASK_ROUTES)} {port}", timeout=30)
    if not done.succeeded:
        last = done.stderr.strip().rpartition("\n")[2]
        raise HostError(f"{host}: the bot does not show its routes: {last}", advice=UNREADABLE)
    return routes_of(json.loads(done.stdout))


def routes_of(shown: Mapping[str, Any]) -> UsedRoutes:
    """Return the routes that a bot shows."""
    models = tuple(
        UsedModel(
            name=name,
            model=model["model"],
            share=model["share"],
            breaker=model["breaker"],
            answering=model["answering"],
            waiting=model["waiting"],
            judged=model["judged"],
            stopped=model["stopped"] or "",
        )
        for name, model in shown["models"].items()
    )
    return UsedRoutes(shown["version"], shown["problem"], models)


def share_of(inventory: Inventory, name: str) -> int:
    """Return the declared share of a further model. Raises `ClawdError` for another name."""
    if name not in inventory.models.further:
        known = ", ".join(inventory.models.further)
        raise ClawdError(
            f"`{name}` cannot have a share: `models` declares no further model of that name",
            advice=f"further models: {known}" if known else "declare it in `models`, next to `default`",
        )
    return inventory.routes.shares.get(name, 0)


def next_share(inventory: Inventory, name: str) -> int:
    """Return the share that follows the present one. Raises `ClawdError` when there is none."""
    share = share_of(inventory, name)
    following = next((step for step in STEPS if step > share), None)
    if following is None:
        raise ClawdError(
            f"`{name}` answers {share} % of the conversations already",
            advice="declare it as `default`, and remove the former one",
        )
    return following


def refuse_stopped(name: str, used: Mapping[str, UsedRoutes]) -> None:
    """Raise `ClawdError` when a bot has taken the share of `name` away, or has not seen it answer."""
    for host, routes in used.items():
        model = next((each for each in routes.models if each.name == name), None)
        if model is None:
            raise ClawdError(f"{host}: its bot does not know `{name}` yet", advice="run `up` first")
        if model.stopped:
            raise ClawdError(
                f"{host}: `{name}` has lost its share: {model.stopped}",
                advice="correct the model; `model canary` then gives it a share again",
            )
        if model.breaker != "closed":
            raise ClawdError(f"{host}: `{name}` does not answer", advice="read the log of its engine")


def with_share(inventory: Inventory, name: str, share: int) -> InventoryChange:
    """Return the change that gives `name` this share, in a new version of the routes; 0 takes it away."""
    share_of(inventory, name)
    version = inventory.routes.version + 1

    def change(data: MutableMapping[str, Any]) -> None:
        routes = data.setdefault("routes", {})
        routes["version"] = version
        shares = routes.setdefault("shares", {})
        if share:
            shares[name] = share
        else:
            shares.pop(name, None)

    return change


def without(inventory: Inventory, name: str) -> InventoryChange:
    """Return the change that removes a further model and its share."""
    no_share = with_share(inventory, name, 0)

    def change(data: MutableMapping[str, Any]) -> None:
        no_share(data)
        del data["models"][name]

    return change
