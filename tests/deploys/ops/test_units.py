from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploys.ops import services, units
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
def test_removal_changes_only_existing_units(state: UnitState, file: bool, changes: bool) -> None:
    assert plan(state, file=file).predicted == changes


def test_plan_names_the_removed_unit() -> None:
    (change,) = plan(RUNNING).changes
    assert (change.path, change.diff) == ("app.service", ("stop and remove",))


def test_removal_of_a_unit_deletes_its_stamp_and_kept_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs, state = tmp_path / "bin", tmp_path / "state"
    programs.mkdir()
    (programs / "systemctl").write_text("#!/bin/sh\n")
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(services, "STAMPS", str(state))
    (state / "app.service.good").mkdir(parents=True)
    (state / "app.service.good" / "files.tar").write_text("secret")
    (state / "app.service.stamp").write_text("x")
    gone = Machine(facts={UnitFact: RUNNING}).run(lambda: units.absent("app.service", file=False))
    assert gone.succeeded, gone.output
    assert list(state.iterdir()) == []
