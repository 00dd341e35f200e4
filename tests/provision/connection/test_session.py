"""The session over pyinfra, on scripted hosts: every host keeps its own operations, in order."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gevent.event import Event
from pyinfra.connectors.base import BaseConnector
from pyinfra.connectors.util import CommandOutput, OutputLine
from pyinfra.operations import server

from deploys.artifacts import Supplies
from deploys.component import Component, ComponentSettings
from inventory.load import LoadedInventory
from inventory.model import Inventory
from provision.assignment import Assignment
from provision.connection.session import Session
from provision.local.run_log import RunLog
from provision.plan import Status
from provision.progress import Silent


class Scripted(BaseConnector):
    """A host that answers from a table and records its commands."""

    handles_execution = True
    ran: dict[str, list[str]] = {}  # noqa: RUF012 - one table for all hosts of a test
    failing: set[str] = set()  # noqa: RUF012
    client: Any = None

    @staticmethod
    def make_names_data(name: str) -> Iterator[tuple[str, dict[str, Any], list[str]]]:
        yield name, {}, []

    def connect(self) -> None:
        if self.host.name.startswith("gone"):
            raise OSError("Connection refused")

    def run_shell_command(self, command: Any, **_: Any) -> tuple[bool, CommandOutput]:
        text = command.get_raw_value()
        self.ran.setdefault(self.host.name, []).append(text)
        failed = any(word in text for word in self.failing)
        lines = [OutputLine("stderr", "No space left on device")] if failed else []
        return not failed, CommandOutput(lines)

    def put_file(self, *_: Any, **__: Any) -> bool:
        raise AssertionError("nothing is uploaded here")

    def get_file(self, *_: Any, **__: Any) -> bool:
        raise AssertionError("nothing is downloaded here")


class Words(ComponentSettings):
    words: tuple[str, ...]


def shell_component(name: str, monkeypatch: pytest.MonkeyPatch) -> Component:
    """A component that runs one `echo` a word of its settings, all from the same line of this file."""

    def apply() -> None:
        from pyinfra import host

        for word in getattr(host.data, name).words:
            server.shell(name=f"say {word}", commands=[f"echo {word}"])

    module = SimpleNamespace(apply=apply)
    monkeypatch.setitem(sys.modules, f"deploys.{name}.deploy", module)
    return Component(name, "says words")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[RunLog]:
    opened = RunLog("test", tmp_path)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _fresh_hosts() -> None:
    Scripted.ran = {}
    Scripted.failing = set()


def session(log: RunLog, tmp_path: Path, *hosts: str) -> Session:
    declared = {
        "hosts": {name: {"address": f"192.0.2.{number}"} for number, name in enumerate(hosts, 1)},
        "models": {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}},
    }
    loaded = LoadedInventory(Inventory.model_validate(declared), tmp_path / "inventory.yml")
    return Session(loaded, hosts, log, connector=Scripted)


def supplies(tmp_path: Path, *hosts: str) -> dict[str, Supplies]:
    return {host: Supplies(state_folder=tmp_path) for host in hosts}


def test_hosts_run_only_operations_of_their_own_components_in_order(
    log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (shell_component(name, monkeypatch) for name in ("alpha", "beta"))
    assignments = {
        "one": [Assignment(first, Words(words=("a", "b"))), Assignment(second, Words(words=("c",)))],
        "two": [Assignment(second, Words(words=("x", "y", "z")))],
    }
    with session(log, tmp_path, "one", "two") as hosts:
        assert hosts.connect() == {}
        plan = hosts.prepare(assignments, supplies(tmp_path, "one", "two"), Silent())
        assert [(op.component, op.name) for op in plan.for_host("one").operations] == [
            ("alpha", "say a"),
            ("alpha", "say b"),
            ("beta", "say c"),
        ]
        assert [op.name for op in plan.for_host("two").operations] == ["say x", "say y", "say z"]
        Scripted.ran.clear()
        results = hosts.execute(plan, Silent(), Event())
    assert Scripted.ran == {"one": ["echo a", "echo b", "echo c"], "two": ["echo x", "echo y", "echo z"]}
    assert {result.host: len(result.changed) for result in results} == {"one": 3, "two": 3}


def test_failed_operation_stops_only_its_host_and_is_reported(
    log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = shell_component("alpha", monkeypatch)
    assignments = {
        "one": [Assignment(component, Words(words=("a", "bad", "never")))],
        "two": [Assignment(component, Words(words=("a", "b")))],
    }
    Scripted.failing = {"bad"}
    with session(log, tmp_path, "one", "two") as hosts:
        hosts.connect()
        plan = hosts.prepare(assignments, supplies(tmp_path, "one", "two"), Silent())
        Scripted.ran.clear()
        one, two = hosts.execute(plan, Silent(), Event())
    assert one.status is Status.FAILED
    assert one.failure is not None
    assert (one.failure.component, one.failure.operation) == ("alpha", "say bad")
    assert one.failure.output == ("No space left on device",)
    assert "free disk space" in one.failure.advice
    assert Scripted.ran["one"] == ["echo a", "echo bad"]
    assert two.status is Status.DONE
    assert Scripted.ran["two"] == ["echo a", "echo b"]


def test_stop_ends_every_host_after_its_current_operation(
    log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    component = shell_component("alpha", monkeypatch)
    stopping = Event()

    class StopAtFirst(Silent):
        def operation(self, host: str, operation: object) -> None:
            stopping.set()

    with session(log, tmp_path, "one") as hosts:
        hosts.connect()
        assigned = {"one": [Assignment(component, Words(words=("a", "b", "c")))]}
        plan = hosts.prepare(assigned, supplies(tmp_path, "one"), Silent())
        Scripted.ran.clear()
        (result,) = hosts.execute(plan, StopAtFirst(), stopping)
    assert result.status is Status.INTERRUPTED
    assert Scripted.ran["one"] == ["echo a"]


def test_unreachable_hosts_are_reported_and_others_connected(log: RunLog, tmp_path: Path) -> None:
    with session(log, tmp_path, "one", "gone1") as hosts:
        unreachable = hosts.connect()
        assert hosts.hosts == ("one",)
    assert list(unreachable) == ["gone1"]
    assert "gone1 (root@192.0.2.2:22): cannot be reached" in str(unreachable["gone1"])


def test_component_that_cannot_be_evaluated_is_reported(
    log: RunLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply() -> None:
        raise RuntimeError("template variable `port` is undefined")

    monkeypatch.setitem(sys.modules, "deploys.broken.deploy", SimpleNamespace(apply=apply))
    with session(log, tmp_path, "one") as hosts:
        hosts.connect()
        assigned = {"one": [Assignment(Component("broken", ""), Words(words=()))]}
        plan = hosts.prepare(assigned, supplies(tmp_path, "one"), Silent())
    (host,) = plan.errors
    assert host.error is not None
    assert "cannot evaluate broken" in host.error
    assert "`port` is undefined" in host.error
