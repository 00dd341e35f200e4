"""A host is converged only when the last verification of all its components passed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from deploys.component import ComponentSettings
from deploys.registry import BY_NAME
from deploys.runtime.settings import FormerSettings
from inventory.errors import ConnectError, HostError, LockHeldError
from inventory.load import LoadedInventory
from inventory.model import Inventory
from provision import pipeline
from provision.assignment import Assignment
from provision.plan import HostPlan, HostResult, Plan, PlannedOperation, Result, Status
from provision.progress import Silent
from provision.run import Exit, Run
from provision.selection import Selection
from provision.steps import comparing, remaining
from provision.verification import results
from provision.verification import run as checks
from provision.verification.results import Record

CHANGING = PlannedOperation("nginx", "Write nginx.conf", changes=True)


class Here:
    """A session whose one host is a folder of this machine, which this program has set up."""

    hosts = ("bot1",)
    links: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "state").mkdir(parents=True)

    def run(self, _host: str, script: str, *, timeout: float) -> Any:
        assert timeout
        here = script.replace("/var/lib/clawd", str(self.root))
        done = subprocess.run(["sh", "-c", here], capture_output=True, text=True, check=False)
        return SimpleNamespace(succeeded=done.returncode == 0, stdout=done.stdout, stderr=done.stderr)

    def everywhere(self, function: Any, hosts: Any = None) -> dict[str, Any]:
        return {host: function(host) for host in hosts or self.hosts}

    def write(self, *, of_run: str = "", **records: Record) -> None:
        assert self.run("bot1", results.writing(records, of_run=of_run), timeout=1).succeeded

    def check_alive(self) -> None:
        pass


@pytest.fixture
def here(tmp_path: Path) -> Any:
    return Here(tmp_path / "clawd")


def test_result_of_a_verification_is_stored_on_the_host(here: Any) -> None:
    assert results.read(here, "bot1") == {}
    failed = Record.now("failed", "1", ('it\'s "quoted" and 中文',))
    here.write(nginx=failed, base=Record.now("passed", "1"))
    found = results.read(here, "bot1")
    assert found["nginx"] == failed
    assert found["base"].state == "passed"
    assert (here.root / "state/verified/base").stat().st_mode & 0o777 == 0o600


def test_verification_overtaken_by_a_change_is_not_recorded(here: Any) -> None:
    here.write(nginx=Record.now("due", "of the verification"), base=Record.now("due", "of the verification"))
    results.reopen(here, "bot1", HostPlan("bot1", (CHANGING,)))
    passed = Record.now("passed", "of the verification")
    here.write(of_run="of the verification", nginx=passed, base=passed)
    found = results.read(here, "bot1")
    assert (found["nginx"].state, found["base"].state) == ("due", "passed")


def test_changing_and_failed_components_are_due_before_the_first_change(here: Any) -> None:
    here.write(base=Record.now("passed", "1"), tls=Record.now("failed", "1"), nginx=Record.now("passed", "1"))
    results.reopen(here, "bot1", HostPlan("bot1", (CHANGING,)))
    states = {name: record.state for name, record in results.read(here, "bot1").items()}
    assert states == {"base": "passed", "tls": "due", "nginx": "due"}


def test_removed_component_is_forgotten(here: Any) -> None:
    here.write(base=Record.now("passed", "1"), tls=Record.now("failed", "1"))
    results.forget(here, "bot1", {"tls", "never-there"})
    assert set(results.read(here, "bot1")) == {"base"}


def test_truncated_record_is_ignored(here: Any) -> None:
    here.write(base=Record.now("passed", "1"))
    file = here.root / "state/verified/base"
    file.write_text(file.read_text()[:30])
    assert results.read(here, "bot1") == {}
    assert results.unverified({}, ["base"])


def test_result_is_not_recorded_on_a_host_that_was_never_set_up(tmp_path: Path) -> None:
    bare = Here(tmp_path / "clawd")
    (bare.root / "state").rmdir()
    bare.write(base=Record.now("passed", "1"))
    assert not (bare.root / "state").exists()


def test_full_disk_stops_up_before_its_first_change(here: Any) -> None:
    (here.root / "state/verified").write_text("not a folder")
    with pytest.raises(Exception, match="nothing was changed"):
        results.reopen(here, "bot1", HostPlan("bot1", (CHANGING,)))


@pytest.mark.parametrize(
    ("records", "words"),
    [
        ({"base": Record.now("passed", "1"), "nginx": Record.now("passed", "1")}, None),
        (
            {"base": Record.now("passed", "1"), "nginx": Record.now("failed", "1", ("starts at boot",))},
            r"its last verification failed \(nginx: starts at boot; 20",
        ),
        (
            {"base": Record.now("passed", "1"), "nginx": Record.now("due", "1")},
            "it was not verified since the last change: nginx",
        ),
        ({"base": Record.now("passed", "1")}, "it was not verified since the last change: nginx"),
        ({}, "it was not verified since the last change"),
    ],
)
def test_unverified_explains_why_a_host_is_not_converged(
    records: dict[str, Record], words: str | None
) -> None:
    found = results.unverified(records, ("base", "nginx"))
    if words is None:
        assert found is None
    else:
        assert found
        assert re.match(words, found.reason)


# A run whose hosts do not change


@pytest.fixture
def run(here: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`pipeline.up`, `plan` and `drift` on a host that has nginx and where nothing would change."""
    assigned = {"bot1": [Assignment(BY_NAME["nginx"], ComponentSettings())]}

    @contextmanager
    def connected(*_: Any, **__: Any) -> Iterator[Any]:
        yield here, {}

    @contextmanager
    def locks(*_: Any) -> Iterator[None]:
        yield

    def skip(*_: object, **__: object) -> None:
        """The host is ours, and apt is free."""

    monkeypatch.setattr(pipeline, "connected", connected)
    monkeypatch.setattr(pipeline, "Locks", locks)
    monkeypatch.setattr(pipeline, "ownership", SimpleNamespace(check=skip, claim=skip))
    monkeypatch.setattr(pipeline, "settled", skip)
    monkeypatch.setattr(pipeline, "assign", lambda *_: assigned)
    for module in (pipeline, remaining):
        monkeypatch.setattr(module, "with_removals", lambda *_: assigned)
    monkeypatch.setattr("provision.pipeline.capacity.refuse", lambda *_: None)
    monkeypatch.setattr("provision.steps.comparing.doctor.examine", lambda *_, **__: {})
    monkeypatch.setattr(comparing, "gather", lambda *_, **__: {})
    monkeypatch.setattr(comparing, "prepare", lambda *_: Plan((HostPlan("bot1"),)))
    monkeypatch.setattr(pipeline, "apply", lambda *_: Result((HostResult("bot1", Status.DONE),)))
    monkeypatch.setattr(pipeline, "record", lambda *_, **__: ())
    monkeypatch.setattr("provision.pipeline.former_addresses.find", lambda *_: {})
    monkeypatch.setattr("provision.pipeline.run_journal.read", lambda *_: ())
    monkeypatch.setattr(pipeline, "digest", lambda *_: "digest")
    inventory = Inventory.model_validate(
        {
            "hosts": {"bot1": {"address": "10.0.0.1"}},
            "models": {"default": {"engine": "openai-compatible", "endpoint": "https://m.example/v1"}},
        }
    )
    loaded = LoadedInventory(inventory, Path("/inventory.yml"))
    return Run(loaded, Selection(), Silent(), SimpleNamespace())  # type: ignore[arg-type]


def verifying(monkeypatch: pytest.MonkeyPatch, outcome: str) -> list[tuple[str, ...]]:
    """Have the checks end so; returns the hosts of each verification."""
    asked: list[tuple[str, ...]] = []

    def verify(_: Any, assignments: Any, _links: Any) -> checks.Verification:
        asked.append(tuple(assignments))
        return checks.Verification((checks.Check("bot1", "nginx", "starts at boot", outcome),))

    monkeypatch.setattr("provision.pipeline.checks.verify", verify)
    return asked


def test_up_verifies_again_after_a_failed_verification_although_nothing_changes(
    run: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write(nginx=Record.now("failed", "1", ("starts at boot",)))
    asked = verifying(monkeypatch, "failed")
    outcome = pipeline.up(run, lambda _: pytest.fail("nothing is asked"))
    assert asked == [("bot1",)]
    assert outcome.exit is Exit.ERROR
    assert "bot1: verified again: its last verification failed" in outcome.message
    asked = verifying(monkeypatch, "passed")
    assert pipeline.up(run, lambda _: True).exit is Exit.DONE
    assert asked == [("bot1",)]


def test_up_does_not_verify_a_converged_host_again(
    run: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write(nginx=Record.now("passed", "1"))
    asked = verifying(monkeypatch, "failed")
    assert pipeline.up(run, lambda _: True).exit is Exit.DONE
    assert asked == []


@pytest.mark.parametrize("command", [pipeline.plan, pipeline.drift])
@pytest.mark.parametrize("state", ["failed", "due"])
def test_plan_and_drift_report_a_host_that_is_not_converged(
    run: Any, here: Any, command: Any, state: Any
) -> None:
    here.write(nginx=Record.now(state, "1", ("starts at boot",)))
    outcome = command(run)
    assert outcome.exit is Exit.PENDING
    assert "bot1 is not converged: " in outcome.message
    assert "hint: `up` verifies again" in outcome.message
    (host,) = outcome.plan.to_json()["hosts"]
    assert host["unverified"]["failed"] is (state == "failed")
    here.write(nginx=Record.now("passed", "1"))
    assert command(run).exit is Exit.DONE


@pytest.mark.parametrize(("state", "code"), [("failed", Exit.ERROR), ("due", Exit.DONE)])
def test_up_without_verify_reports_the_last_failed_verification(
    run: Any, here: Any, state: Any, code: Exit, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write(nginx=Record.now(state, "1"))
    asked = verifying(monkeypatch, "passed")
    outcome = pipeline.up(run, lambda _: True, verify=False)
    assert outcome.exit is code
    assert "bot1 is not converged" in outcome.message
    assert asked == []


FORMER = {"bot1": (FormerSettings(host="0.0.0.0", port=8444, tls=True, sources=("10.0.0.9",)),)}
CHANGE = PlannedOperation("runtime", "Service clawd-bot", changes=True)


def passes(
    monkeypatch: pytest.MonkeyPatch, *found: Any, changing: bool = True, then: bool = True
) -> list[Any]:
    """Have each pass find these former places; return the places that passes were applied with.

    `changing` is whether the first pass changes something, `then` whether further ones do.
    """
    applied: list[Any] = []
    answers = iter(found)

    def apply(*given: Any) -> Result:
        applied.append(given[-1])
        changes = changing if len(applied) == 1 else then
        return Result((HostResult("bot1", Status.DONE, (CHANGE,) if changes else ()),))

    monkeypatch.setattr("provision.pipeline.former_addresses.find", lambda *_: next(answers))
    monkeypatch.setattr("provision.pipeline.former_addresses.keeping", lambda assignments, *_: assignments)
    monkeypatch.setattr(pipeline, "apply", apply)
    planned = Plan((HostPlan("bot1", (CHANGE,) if changing else ()),))
    monkeypatch.setattr(comparing, "prepare", lambda *_: planned)
    return applied


def test_up_has_a_second_pass_when_bots_listen_at_a_former_port(
    run: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write(nginx=Record.now("passed", "1"))
    applied = passes(monkeypatch, FORMER, {})
    confirmed: list[object] = []

    def confirm(plan: object) -> bool:
        confirmed.append(plan)
        return True

    asked = verifying(monkeypatch, "passed")
    outcome = pipeline.up(run, confirm)
    assert applied == [FORMER, {}]
    assert len(confirmed) == 1
    assert asked == [("bot1",)], "verified once, at the end"
    assert outcome.exit is Exit.DONE
    assert outcome.result is not None
    assert outcome.result.changed == 2


def test_up_reports_a_former_port_used_by_an_nginx_outside_of_the_run(
    run: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write(nginx=Record.now("passed", "1"))
    run = limited(run)
    applied = passes(monkeypatch, FORMER, FORMER, then=False)
    outcome = pipeline.up(run, lambda _: True)
    assert applied == [FORMER, FORMER]
    assert outcome.exit is Exit.PENDING
    assert "bot1: the bot still listens on port 8444, which nginx of 10.0.0.9 uses" in outcome.message
    assert "hint: run `up` for the hosts with nginx as well" in outcome.message
    passes(monkeypatch, FORMER, changing=False)
    assert pipeline.up(run, lambda _: True).exit is Exit.PENDING


def limited(run: Any) -> Any:
    """The run of the bot alone, where another host has the nginx in front of it."""
    hosts = {
        "bot1": {"address": "10.0.0.1", "roles": ["runtime"]},
        "web1": {"address": "10.0.0.9", "roles": ["nginx"]},
    }
    model = {"default": {"engine": "openai-compatible", "endpoint": "https://m.example/v1"}}
    declared = Inventory.model_validate({"hosts": hosts, "models": model})
    loaded = LoadedInventory(declared, Path("/inventory.yml"))
    return replace(run, loaded=loaded, selection=Selection(("bot1",)))


@pytest.mark.parametrize(
    ("error", "code", "why"),
    [
        (
            HostError("web1: no answer", advice="nothing was changed on any host"),
            Exit.ERROR,
            "web1: no answer",
        ),
        (LockHeldError("bot1: another run"), Exit.LOCKED, "bot1: another run"),
        (KeyboardInterrupt(), Exit.INTERRUPTED, "interrupted"),
    ],
    ids=["a host fails", "another run holds the lock", "Ctrl-C"],
)
def test_error_in_the_second_pass_keeps_the_result_of_the_first(
    run: Any, here: Any, error: BaseException, code: Exit, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write(nginx=Record.now("passed", "1"))
    passes(monkeypatch, FORMER)
    answers = iter((FORMER, error))

    def find(*_: Any) -> Any:
        found = next(answers)
        if isinstance(found, BaseException):
            raise found
        return found

    monkeypatch.setattr("provision.pipeline.former_addresses.find", find)
    outcome = pipeline.up(run, lambda _: True)
    assert outcome.exit is code
    assert outcome.message == (
        f"bots still listen on their former ports: {why}\n"
        "hint: the plan was applied; run `up` again, which completes the rest"
    )
    assert outcome.result is not None
    assert outcome.result.to_json()["hosts"][0]["changed"] == ["runtime: Service clawd-bot"]
    assert outcome.plan is not None
    assert outcome.plan.changes == 1


def test_error_in_the_first_pass_is_raised(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(*_: Any) -> Any:
        raise HostError("web1: no answer")

    monkeypatch.setattr("provision.pipeline.former_addresses.find", find)
    with pytest.raises(HostError, match="web1: no answer"):
        pipeline.up(run, lambda _: True)


def test_second_pass_changes_only_runtime_and_firewall_on_the_hosts_of_the_first(
    run: Any, here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write(nginx=Record.now("passed", "1"))
    inventory = run.loaded.inventory
    assigned = [
        Assignment(BY_NAME[name], BY_NAME[name].settings_for(inventory, "bot1"))
        for name in ("firewall", "runtime", "nginx")
    ]
    monkeypatch.setattr(pipeline, "assign", lambda *_: {"bot1": assigned})
    for module in (pipeline, remaining):
        monkeypatch.setattr(module, "with_removals", lambda *_: {"bot1": assigned})
    passes(monkeypatch, FORMER, {})
    asked = verifying(monkeypatch, "passed")
    planned: list[list[str]] = []
    connected: list[tuple[tuple[str, ...], Any, bool]] = []
    noted = iter((("bot1: the disk is full",), ("bot1: it still is",)))

    @contextmanager
    def connect(run: Any, ask: Any, *, fronts: bool) -> Iterator[Any]:
        connected.append((run.selection.hosts, ask, fronts))
        yield here, {"web1": ConnectError("web1: no answer")} if len(connected) == 1 else {}

    def prepared(_run: Any, _session: Any, assignments: Any, _supplies: Any) -> Plan:
        planned.append([item.component.name for item in assignments["bot1"]])
        return Plan((HostPlan("bot1", (CHANGE,) * len(planned)),))

    monkeypatch.setattr(pipeline, "connected", connect)
    monkeypatch.setattr(comparing, "prepare", prepared)
    monkeypatch.setattr(pipeline, "record", lambda *_, **__: next(noted))
    outcome = pipeline.up(run, lambda _: True)
    assert planned == [["firewall", "runtime", "nginx"], ["firewall", "runtime"]]
    assert [hosts for hosts, _, _ in connected] == [(), ("bot1",)]
    assert connected[0][1] is connected[1][1], "secrets are typed once"
    assert all(fronts for _, _, fronts in connected)
    assert asked == [("bot1",)]
    assert outcome.plan is not None
    assert outcome.plan.changes == 1, "the plan that was confirmed"
    assert outcome.message == "bot1: the disk is full\nbot1: it still is"
    assert list(outcome.unreachable or ()) == ["web1"]
    assert outcome.exit is Exit.ERROR


def test_result_of_two_passes_keeps_messages_and_hosts_of_the_first() -> None:
    first = Result(
        (
            HostResult("bot1", Status.DONE, (CHANGE,), 7, message="cannot restore bot1 at web1"),
            HostResult("web1", Status.DONE, (CHANGING,), 3),
        )
    )
    whole = Result((HostResult("bot1", Status.DONE, (CHANGE,), 1, message="again"),)).after(first)
    bot, front = whole.hosts
    assert (bot.changed, bot.unchanged, bot.message) == (
        (CHANGE, CHANGE),
        7,
        "cannot restore bot1 at web1\nagain",
    )
    assert front == first.hosts[1]


@pytest.mark.parametrize("command", [pipeline.plan, pipeline.drift])
def test_plan_and_drift_agree_with_up_on_former_places(
    run: Any, here: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.write(nginx=Record.now("due", "1"))
    run = limited(run)
    passes(monkeypatch, FORMER, FORMER, changing=False)
    wanted: list[bool] = []

    @contextmanager
    def connect(_run: Any, _ask: Any = None, *, fronts: bool = False) -> Iterator[Any]:
        wanted.append(fronts)
        yield here, {}

    monkeypatch.setattr(pipeline, "connected", connect)
    for outcome in (command(run), pipeline.up(run, lambda _: True)):
        assert outcome.exit is Exit.PENDING
        assert "bot1 is not converged" in outcome.message
        assert "bot1: the bot still listens on port 8444, which nginx of 10.0.0.9 uses" in outcome.message
        assert "hint: run `up` for the hosts with nginx as well" in outcome.message
        assert "verifies again" not in outcome.message, "it does not while a bot listens there"
    assert wanted == [True, True]
