from __future__ import annotations

from typing import Any

from deploys.nginx.deploy import apply, remove
from deploys.nginx.settings import settings_for
from deploys.ops.facts import PackagesFact, PathFact, PathState, UnitFact, UnitState
from tests.deploys.harness import Machine, Run
from tests.deploys.inventories import inventory

BARE: dict[Any, Any] = {PathFact: PathState(), PackagesFact: frozenset(), UnitFact: UnitState()}


def plan(path: PathState = BARE[PathFact]) -> Run:
    data = {"nginx": settings_for(inventory(), "bot1")}
    return Machine(data, facts={**BARE, PathFact: path}).run(apply, execute=False)


def test_a_first_installation() -> None:
    changed = [change.path for change in plan().changes]
    assert changed[0] == "packages"
    assert changed[-2:] == ["/etc/nginx/nginx.conf", "nginx.service"]


def test_ipv6_is_listened_on_where_the_kernel_has_it() -> None:
    def listens(path: PathState) -> bool:
        (config,) = (change for change in plan(path).changes if change.path == "/etc/nginx/nginx.conf")
        return any("[::]:443" in line for line in config.diff)

    assert listens(PathState("file", content=b""))
    assert not listens(PathState("absent"))


def test_removal_stops_it_and_leaves_debians_package() -> None:
    running = UnitState(load="loaded", active="active", enabled="enabled")
    run = Machine(facts={UnitFact: running, PathFact: PathState("file")}).run(remove, execute=False)
    assert [change.path for change in run.changes] == [
        "nginx.service",
        "/etc/systemd/system/nginx.service.d/clawd.conf",
    ]
    assert run.changes[0].diff == ("stop and disable",)
