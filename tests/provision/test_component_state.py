"""What a host is remembered to have, and what goes when the inventory no longer names it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploys.component import ComponentSettings
from deploys.registry import BY_NAME
from provision import component_state
from provision.assignment import Assignment
from provision.component_state import RECORD, removals
from provision.plan import HostPlan, PlannedOperation


def assigned(*names: str) -> tuple[Assignment, ...]:
    return tuple(Assignment(BY_NAME[name], ComponentSettings()) for name in names)


def names(found: tuple[Assignment, ...]) -> list[str]:
    assert all(item.settings is None for item in found)
    return [item.component.name for item in found]


def test_dropped_components_are_removed_in_reverse_order() -> None:
    has = {"base", "tls", "model", "runtime", "nginx"}
    assert names(removals(has, assigned("base", "tls"))) == ["nginx", "runtime", "model"]


def test_limited_run_removes_only_selected_components() -> None:
    assert names(removals({"base", "model", "nginx"}, (), ("nginx",))) == ["nginx"]


def test_unknown_component_names_are_ignored() -> None:
    assert removals({"somebody-elses"}, ()) == ()


class Here:
    """A session whose one host is a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def run(self, _host: str, script: str, *, stdin: str | None = None, timeout: float) -> Any:
        assert timeout
        here = script.replace("/var/lib/clawd", str(self._root))
        done = subprocess.run(["sh", "-c", here], input=stdin, capture_output=True, text=True, check=False)
        return SimpleNamespace(succeeded=done.returncode == 0, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def here(tmp_path: Path) -> Any:
    return Here(tmp_path / "clawd")


def operation(component: str, *, removes: bool = False) -> PlannedOperation:
    return PlannedOperation(component, "does something", changes=True, removes=removes)


def test_component_is_remembered_before_its_change_and_forgotten_after_removal(
    here: Any, tmp_path: Path
) -> None:
    assert component_state.read(here, "bot1") == frozenset()
    component_state.add(here, "bot1", HostPlan("bot1", (operation("base"), operation("nginx", removes=True))))
    assert component_state.read(here, "bot1") == {"base"}
    assert component_state.settle(here, "bot1", assigned("base", "tls"), purge=False)
    assert component_state.read(here, "bot1") == {"base", "tls"}
    going = removals(component_state.read(here, "bot1"), assigned("base"))
    assert component_state.settle(here, "bot1", (*going, *assigned("base")), purge=False)
    assert component_state.read(here, "bot1") == {"base"}
    record = Path(RECORD.replace("/var/lib/clawd", str(tmp_path / "clawd")))
    assert record.stat().st_mode & 0o777 == 0o600


def test_host_without_components_is_forgotten_only_when_purged(here: Any, tmp_path: Path) -> None:
    for purge in (False, True):
        component_state.add(here, "bot1", HostPlan("bot1", (operation("base"),)))
        kept = component_state.settle(here, "bot1", removals({"base"}, ()), purge=purge)
        assert kept is not purge
        assert (tmp_path / "clawd").exists() is not purge


def test_purge_finds_components_with_only_data_left(here: Any, tmp_path: Path) -> None:
    assert component_state.with_data_left(here, "bot1") == frozenset()
    (tmp_path / "clawd/state/left").mkdir(parents=True)
    (tmp_path / "clawd/state/left/database").write_text("/var/lib/postgresql/15/clawd\tthe database clawd\n")
    assert component_state.with_data_left(here, "bot1") == {"database"}


def test_conversations_left_by_an_older_version_are_found(here: Any, tmp_path: Path) -> None:
    (tmp_path / "clawd-bot").mkdir()
    assert component_state.with_data_left(here, "bot1") == {"runtime"}


def test_data_in_use_again_is_no_longer_listed_as_left(here: Any, tmp_path: Path) -> None:
    left = tmp_path / "clawd/state/left"
    left.mkdir(parents=True)
    (left / "nginx").touch()
    (left / "database").touch()
    component_state.settle(here, "bot1", assigned("nginx"), purge=False)
    assert component_state.with_data_left(here, "bot1") == {"database"}


def test_host_is_not_forgotten_while_data_is_left(here: Any, tmp_path: Path) -> None:
    component_state.add(here, "bot1", HostPlan("bot1", (operation("base"),)))
    left = tmp_path / "clawd/state/left"
    left.mkdir()
    (left / "database").touch()
    assert component_state.settle(here, "bot1", removals({"base"}, ()), purge=True)
    assert left.exists()
