from __future__ import annotations

from typing import Any

import pytest

from deploys.ops import units
from deploys.ops.facts import UnitFact, UnitState
from tests.deploys.harness import Machine, Run

RUNNING = UnitState(load="loaded", active="active", enabled="enabled")


def plan(state: UnitState, **arguments: Any) -> Run:
    return Machine(facts={UnitFact: state}).run(
        lambda: units.absent("app.service", **arguments), execute=False
    )


@pytest.mark.parametrize(
    ("state", "file", "changes"),
    [
        (RUNNING, True, True),
        (UnitState(load="loaded"), True, True),
        (UnitState(), True, False),
        (RUNNING, False, True),
        (UnitState(load="loaded", active="inactive", enabled="enabled"), False, True),
        (UnitState(load="loaded", active="inactive", enabled="disabled"), False, False),
        (UnitState(), False, False),
    ],
)
def test_only_what_is_there_is_removed(state: UnitState, file: bool, changes: bool) -> None:
    assert plan(state, file=file).predicted == changes


def test_the_plan_says_which() -> None:
    (change,) = plan(RUNNING).changes
    assert (change.path, change.diff) == ("app.service", ("stop and remove",))
