"""The order in which hosts change, and what a failure stops."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploys.tls.certificate import OTHER_AUTHORITY
from deploys.topology.bots import drained_at
from inventory.errors import HostError
from inventory.model import Inventory
from provision.plan import FileChange, HostPlan, HostResult, Plan, PlannedOperation, Status
from provision.progress import Silent
from provision.rollout import draining
from provision.rollout.draining import Drain, fronts_beside
from provision.rollout.plan_changes import changes_authority, changes_upstreams
from provision.rollout.roll import roll, unreached
from provision.rollout.stages import HostStates, Stage, stages

BOT = PlannedOperation("runtime", "Service clawd-bot", changes=True)
NODE = PlannedOperation("elasticsearch", "Service elasticsearch", changes=True)
OTHER = PlannedOperation("firewall", "Rules in force", changes=True)


def inventory(roles: Mapping[str, list[str]], **changes: Any) -> Inventory:
    hosts = {
        name: {"address": f"10.0.0.{number}", "roles": of}
        for number, (name, of) in enumerate(roles.items(), 1)
    }
    model = {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}
    return Inventory.model_validate({"hosts": hosts, "models": {"default": model}, **changes})


def plan(**operations: PlannedOperation | None) -> Plan:
    return Plan(tuple(HostPlan(name, (what,) if what else ()) for name, what in operations.items()))


CLUSTER = {"lb": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"], "db": ["database"]}


def test_first_deployment_begins_with_hosts_that_bots_need() -> None:
    planned = plan(lb=OTHER, bot1=BOT, bot2=BOT, db=OTHER)
    assert stages(inventory(CLUSTER), planned, HostStates()) == (
        Stage(("lb", "db")),
        Stage(("bot1", "bot2"), needs=("db",)),
    )


def test_bots_that_serve_change_one_after_another() -> None:
    planned = plan(lb=OTHER, bot1=BOT, bot2=BOT, db=OTHER)
    assert stages(inventory(CLUSTER), planned, HostStates(serving=("bot1", "bot2")))[1:] == (
        Stage(("bot1",), needs=("db",), drained=True),
        Stage(("bot2",), needs=("db", "bot1"), drained=True),
    )


def test_unchanged_bot_is_not_drained() -> None:
    planned = plan(lb=OTHER, bot1=OTHER, bot2=OTHER, db=OTHER)
    assert not any(
        stage.drained for stage in stages(inventory(CLUSTER), planned, HostStates(serving=("bot1", "bot2")))
    )


def test_one_server_changes_in_one_stage() -> None:
    single = inventory({"bot1": ["runtime", "nginx"]})
    assert stages(single, plan(bot1=BOT), HostStates(serving=("bot1",))) == (Stage(("bot1",)),)


def test_batch_size_is_a_percentage_of_the_bots() -> None:
    names = [f"bot{number}" for number in range(1, 9)]
    fleet = inventory(
        {"lb": ["nginx"], **{name: ["runtime"] for name in names}}, rollout={"batch_percent": 30}
    )
    planned = plan(lb=None, **dict.fromkeys(names, BOT))
    batches = [stage.hosts for stage in stages(fleet, planned, HostStates(serving=names)) if stage.drained]
    assert [len(batch) for batch in batches] == [2, 2, 2, 2]


@given(
    roles=st.lists(
        st.sets(st.sampled_from(["runtime", "nginx", "database", "monitoring", "logs"]), min_size=1),
        min_size=1,
        max_size=6,
    ),
    data=st.data(),
)
def test_every_host_is_in_exactly_one_stage(roles: list[set[str]], data: st.DataObject) -> None:
    names = [f"h{number}" for number in range(len(roles))]
    whole = inventory({name: sorted(of) for name, of in zip(names, roles, strict=True)})
    # A host that keeps log lines has no bot: the inventory's rules see to it.
    changes = {True: [BOT, OTHER, None], False: [NODE, OTHER, None]}
    planned = plan(
        **{
            name: data.draw(st.sampled_from(changes["runtime" in of]))
            for name, of in zip(names, roles, strict=True)
        }
    )
    serving, nodes, passing, renewing = (data.draw(st.sets(st.sampled_from(names))) for _ in range(4))
    found = stages(
        whole, planned, HostStates(serving=serving, nodes=nodes, passing=passing, renewing=renewing)
    )
    assert sorted(host for stage in found for host in stage.hosts) == sorted(names)
    earlier: set[str] = set()
    for stage in found:
        assert set(stage.needs) <= earlier
        assert sum(host in nodes and NODE in planned.for_host(host).changing for host in stage.hosts) <= 1
        earlier |= set(stage.hosts)


def test_nginx_with_changed_upstreams_changes_after_the_bots() -> None:
    planned = plan(lb=OTHER, bot1=BOT, bot2=BOT, db=OTHER)
    serving = ("bot1", "bot2")
    assert stages(inventory(CLUSTER), planned, HostStates(serving=serving, passing=("lb",))) == (
        Stage(("db",)),
        Stage(("bot1",), needs=("db",), drained=True),
        Stage(("bot2",), needs=("db", "bot1"), drained=True),
        Stage(("lb",), needs=("db", "bot1", "bot2"), moves=True),
    )


def test_nginx_with_changed_upstreams_is_not_begun_after_a_failed_bot() -> None:
    recorder = Recorder({"bot2": Status.ROLLED_BACK})
    order = stages(inventory(CLUSTER), ALL, HostStates(serving=("bot1", "bot2"), passing=("lb",)))
    results = roll(order, ALL, recorder.execute, recorder.drain, Silent())
    (front,) = (result for result in results if result.host == "lb")
    assert (front.status, front.message) == (
        Status.NOT_BEGUN,
        "not started: bot2 failed",
    )


@pytest.mark.parametrize("passing", [(), ("lb",)])
def test_nginx_gets_a_new_authority_after_the_first_bots(passing: tuple[str, ...]) -> None:
    """Before that the other bots answer it, afterwards the first ones."""
    planned = plan(lb=OTHER, bot1=BOT, bot2=BOT, db=OTHER)
    serving = ("bot1", "bot2")
    assert stages(
        inventory(CLUSTER), planned, HostStates(serving=serving, passing=passing, renewing=("lb",))
    ) == (
        Stage(("db",)),
        Stage(("bot1",), needs=("db",), drained=True),
        Stage(("lb",), needs=("db", "bot1"), moves=bool(passing)),
        Stage(("bot2",), needs=("db", "bot1", "lb"), drained=True),
    )


def test_nginx_gets_a_new_authority_first_after_an_interrupted_run() -> None:
    planned = plan(lb=OTHER, bot1=None, bot2=BOT, db=None)
    hosts = [
        stage.hosts
        for stage in stages(inventory(CLUSTER), planned, HostStates(serving=("bot2",), renewing=("lb",)))
    ]
    assert hosts == [("db",), ("bot1",), ("lb",), ("bot2",)]


@pytest.mark.parametrize(
    ("path", "reason", "changes"),
    [
        ("/etc/clawd/nginx-internal/fullchain.pem", OTHER_AUTHORITY, True),
        ("/etc/clawd/nginx-internal/fullchain.pem", "it expires on 2027-01-01", False),
        ("/etc/clawd/tls/fullchain.pem", OTHER_AUTHORITY, False),
    ],
)
def test_changes_authority_detects_a_new_authority_of_nginx(path: str, reason: str, changes: bool) -> None:
    files = (FileChange(path, (f"issue a certificate for 10.0.0.1: {reason}",)),)
    operation = PlannedOperation("nginx", "Certificate for 10.0.0.1", changes=True, files=files)
    assert changes_authority(HostPlan("lb", (operation,))) is changes


def test_nginx_with_changed_upstreams_is_not_begun_when_no_bot_listens() -> None:
    recorder = Recorder()
    planned = plan(lb=OTHER, bot1=None, bot2=None, db=None)
    order = stages(inventory(CLUSTER), planned, HostStates(passing=("lb",)))
    results = roll(
        order,
        planned,
        recorder.execute,
        recorder.drain,
        Silent(),
        lambda host: "no bot listens at 10.0.0.2:9444",
    )
    front = results[0]
    assert (front.status, front.message) == (
        Status.NOT_BEGUN,
        "not started: no bot listens at 10.0.0.2:9444",
    )
    assert not [event for event in recorder.events if "lb" in event]


@pytest.mark.parametrize("listening", [False, True])
def test_unreached_checks_from_the_front_whether_a_bot_listens(listening: bool) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if listening:
            server.listen()
        declared = inventory(CLUSTER, bot={"internal_port": server.getsockname()[1]})
        hosts = {
            name: host.model_copy(update={"address": "127.0.0.1"}) for name, host in declared.hosts.items()
        }
        declared = declared.model_copy(update={"hosts": hosts})

        def on_the_front(script: str) -> tuple[bool, str]:
            done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=20)
            return done.returncode == 0, done.stderr

        why = unreached(Fronts(on_the_front), declared, ALL, "lb")  # type: ignore[arg-type]
    assert (why == "") is listening
    assert listening or "run `up` for bot1, bot2 as well, without `--tags`" in why


@pytest.mark.parametrize(("change", "asked"), [(OTHER, 1), (BOT, 0)], ids=["stays", "changes first"])
def test_nginx_on_the_host_of_its_bot_changes_only_when_the_bot_listens_or_changes_first(
    change: PlannedOperation, asked: int
) -> None:
    session = Fronts(lambda _: (False, ""))
    declared = inventory({"bot1": ["runtime", "nginx"]}, bot={"port": 8090})
    why = unreached(session, declared, plan(bot1=change), "bot1")  # type: ignore[arg-type]
    assert len(session.asked) == asked
    no_bot = "no bot listens at 127.0.0.1:8090; run `up` for bot1 as well, without `--tags`"
    assert why == (no_bot if asked else "")


def test_undeclared_bot_is_removed_after_nginx_stops_using_it() -> None:
    fewer = inventory({**CLUSTER, "bot2": ["logs"]})
    planned = plan(lb=OTHER, bot1=BOT, bot2=BOT, db=OTHER)
    assert [
        stage.hosts for stage in stages(fewer, planned, HostStates(serving=("bot1", "bot2"), passing=("lb",)))
    ] == [
        ("db",),
        ("bot1",),
        ("lb",),
        ("bot2",),
    ]


def test_hosts_with_both_roles_change_after_other_bots_when_their_upstreams_change() -> None:
    mixed = inventory({"bot1": ["runtime", "nginx"], "bot2": ["runtime"], "db": ["database"]})
    planned = plan(bot1=BOT, bot2=BOT, db=None)
    hosts = [
        stage.hosts
        for stage in stages(mixed, planned, HostStates(serving=("bot1", "bot2"), passing=("bot1",)))
    ]
    assert hosts == [("db",), ("bot2",), ("bot1",)]


@pytest.mark.parametrize(
    ("diff", "changes"),
    [
        (("-    server 10.0.0.2:8444 max_fails=0;", "+    server 10.0.0.2:9444 max_fails=0;"), True),
        (("+    server 10.0.0.3:8444;",), True),
        (("-    server 10.0.0.2:8444 max_fails=0 down;", "+    server 10.0.0.2:8444 max_fails=0;"), False),
        (("-    keepalive 16;", "+    keepalive 32;"), False),
    ],
    ids=["another port", "another bot", "only drained", "something else"],
)
def test_changes_upstreams_detects_changed_bot_addresses(diff: tuple[str, ...], changes: bool) -> None:
    files = (FileChange("/etc/nginx/clawd/upstreams.conf", diff),)
    operation = PlannedOperation("nginx", "Write upstreams.conf", changes=True, files=files)
    assert changes_upstreams(HostPlan("lb", (operation,))) is changes


def test_bot_is_drained_at_its_former_port_too() -> None:
    session = Fronts(lambda _: (True, ""))
    Drain(session, inventory(CLUSTER), "bot2", (9444,)).begin()  # type: ignore[arg-type]
    assert "names='10.0.0.3:8444 10.0.0.3:8080 10.0.0.3:9444'" in session.asked[0][1]


def test_fronts_are_those_with_another_bot_to_forward_to() -> None:
    assert drained_at(inventory(CLUSTER), "bot1") == ("lb",)
    assert drained_at(inventory({"bot1": ["runtime", "nginx"]}), "bot1") == ()


class Recorder:
    """Carry out plans with scripted results, and record what happened in which order."""

    def __init__(self, statuses: Mapping[str, Status] | None = None, refusing: str = "") -> None:
        self.events: list[str] = []
        self._statuses, self._refusing = statuses or {}, refusing

    def execute(self, part: Plan) -> tuple[HostResult, ...]:
        self.events.append("change " + " ".join(host.host for host in part.hosts))
        return tuple(HostResult(host.host, self._statuses.get(host.host, Status.DONE)) for host in part.hosts)

    def drain(self, host: str) -> Any:
        def begin() -> None:
            if host == self._refusing:
                raise HostError(f"{host} is the last one")
            self.events.append(f"drain {host}")

        def end() -> tuple[str, ...]:
            self.events.append(f"restore {host}")
            return ()

        return SimpleNamespace(bot=host, begin=begin, end=end)

    def roll(self, planned: Plan) -> dict[str, Status]:
        order = stages(inventory(CLUSTER), planned, HostStates(serving=("bot1", "bot2")))
        results = roll(order, planned, self.execute, self.drain, Silent())
        return {result.host: result.status for result in results}


ALL = plan(lb=OTHER, bot1=BOT, bot2=BOT, db=OTHER)


def test_each_bot_is_drained_changed_and_restored() -> None:
    recorder = Recorder()
    assert set(recorder.roll(ALL).values()) == {Status.DONE}
    assert recorder.events == [
        "change lb db",
        *("drain bot1", "change bot1", "restore bot1"),
        *("drain bot2", "change bot2", "restore bot2"),
    ]


def test_broken_release_stops_at_the_first_batch() -> None:
    recorder = Recorder({"bot1": Status.ROLLED_BACK})
    assert recorder.roll(ALL) == {
        "lb": Status.DONE,
        "bot1": Status.ROLLED_BACK,
        "bot2": Status.NOT_BEGUN,
        "db": Status.DONE,
    }
    assert recorder.events[-1] == "restore bot1"


def test_failed_bot_is_not_restored_at_the_front() -> None:
    recorder = Recorder({"bot1": Status.FAILED})
    recorder.roll(ALL)
    assert "restore bot1" not in recorder.events


def test_bots_are_not_begun_after_a_failed_database() -> None:
    recorder = Recorder({"db": Status.FAILED})
    assert recorder.roll(ALL)["bot1"] is Status.NOT_BEGUN
    assert recorder.events == ["change lb db"]


LOGS = {**CLUSTER, "log1": ["logs"], "log2": ["logs"], "log3": ["logs"]}
NODES = ("log1", "log2", "log3")
LOGS_CHANGE = plan(lb=OTHER, bot1=BOT, bot2=BOT, db=OTHER, log1=NODE, log2=NODE, log3=NODE)


def test_elasticsearch_nodes_change_one_after_another() -> None:
    assert stages(inventory(LOGS), LOGS_CHANGE, HostStates(serving=("bot1", "bot2"), nodes=NODES))[:3] == (
        Stage(("lb", "db", "log1")),
        Stage(("log2",), needs=("log1",)),
        Stage(("log3",), needs=("log1", "log2")),
    )


def test_stopped_nodes_change_at_once_and_before_running_ones() -> None:
    assert stages(inventory(LOGS), LOGS_CHANGE, HostStates())[0].hosts == ("lb", "db", *NODES)
    assert stages(inventory(LOGS), LOGS_CHANGE, HostStates(nodes=("log1", "log2")))[:2] == (
        Stage(("lb", "db", "log1", "log3")),
        Stage(("log2",), needs=("log1", "log3")),
    )


def test_log_host_with_unchanged_elasticsearch_does_not_wait() -> None:
    quiet = plan(lb=OTHER, log1=OTHER, log2=NODE, log3=OTHER)
    hosts = {name: of for name, of in LOGS.items() if name in ("lb", *NODES)}
    assert stages(inventory(hosts), quiet, HostStates(nodes=NODES)) == (Stage(("lb", *NODES)),)


def test_failed_node_stops_other_nodes_and_no_bot() -> None:
    recorder = Recorder({"log2": Status.FAILED})
    order = stages(inventory(LOGS), LOGS_CHANGE, HostStates(serving=("bot1", "bot2"), nodes=NODES))
    results = {
        result.host: result for result in roll(order, LOGS_CHANGE, recorder.execute, recorder.drain, Silent())
    }
    assert [results[name].status for name in NODES] == [Status.DONE, Status.FAILED, Status.NOT_BEGUN]
    assert results["log3"].message == "not started: log2 failed"
    assert results["bot2"].status is Status.DONE


def test_failure_of_an_unrelated_host_stops_no_bot() -> None:
    assert Recorder({"lb": Status.FAILED}).roll(ALL)["bot2"] is Status.DONE


def test_interrupted_host_stops_all_others() -> None:
    assert Recorder({"lb": Status.INTERRUPTED}).roll(ALL)["bot1"] is Status.NOT_BEGUN


def test_bot_that_cannot_be_drained_is_not_changed() -> None:
    recorder = Recorder(refusing="bot1")
    found = recorder.roll(ALL)
    assert (found["bot1"], found["bot2"]) == (Status.FAILED, Status.NOT_BEGUN)
    assert "change bot1" not in recorder.events


class Fronts:
    """A session of hosts with scripted answers."""

    def __init__(self, answer: Callable[[str], tuple[bool, str]]) -> None:
        self.reached = ("lb", "bot1", "bot2")
        self.asked: list[tuple[str, str]] = []
        self._answer = answer

    def run(self, host: str, script: str, *, timeout: float) -> Any:
        assert timeout
        self.asked.append((host, script))
        succeeded, said = self._answer(script)
        return SimpleNamespace(succeeded=succeeded, stderr=said, stdout="")


def test_drain_uses_the_address_known_to_the_front() -> None:
    session = Fronts(lambda _: (True, ""))
    drain = Drain(session, inventory(CLUSTER), "bot2")  # type: ignore[arg-type]
    drain.begin()
    assert drain.end() == ()
    assert [host for host, _ in session.asked] == ["lb", "lb"]
    for _, script in session.asked:
        assert "names='10.0.0.3:8444 10.0.0.3:8080'" in script


@pytest.mark.parametrize(
    ("status", "drained", "restored"),
    [
        ("10.0.0.2:8444 up\n10.0.0.3:8444 up", "drain 10.0.0.3:8444 30", "restore 10.0.0.3:8444"),
        ("10.0.0.2:8080 up\n10.0.0.3:8080 up", "drain 10.0.0.3:8080 30", "restore 10.0.0.3:8080"),
        # Before there was a second bot, and before this one was behind it.
        ("10.0.0.3:8080 up", "", "restore 10.0.0.3:8080"),
        ("10.0.0.2:8444 up", "", ""),
    ],
    ids=["as declared", "by an earlier name", "the only one", "unknown"],
)
def test_drain_uses_the_name_in_the_status_of_the_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, drained: str, restored: str
) -> None:
    program, calls = tmp_path / "upstream", tmp_path / "calls"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = status ]; then echo "{status}"; else echo "$*" >> {calls}; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setattr(draining, "UPSTREAM", str(program))

    def on_the_front(script: str) -> tuple[bool, str]:
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10)
        return done.returncode == 0, done.stderr

    drain = Drain(Fronts(on_the_front), inventory(CLUSTER), "bot2")  # type: ignore[arg-type]
    drain.begin()
    assert drain.end() == ()
    called = calls.read_text().splitlines() if calls.exists() else []
    assert called == [call for call in (drained, restored) if call]


def test_failing_upstream_program_of_a_front_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "upstream"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(draining, "UPSTREAM", str(program))

    def on_the_front(script: str) -> tuple[bool, str]:
        done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=10)
        return done.returncode == 0, done.stderr

    drain = Drain(Fronts(on_the_front), inventory(CLUSTER), "bot2")  # type: ignore[arg-type]
    with pytest.raises(HostError, match="broken"):
        drain.begin()


def test_fronts_outside_of_the_run_are_connected_too() -> None:
    cluster = inventory(CLUSTER)
    assert fronts_beside(cluster, ("bot2",)) == ("lb",)
    assert fronts_beside(cluster, ("bot1", "bot2", "lb")) == ()
    assert fronts_beside(cluster, ("lb",)) == ()


def test_front_of_the_only_bot_is_connected_too() -> None:
    """It is not drained there, but nginx is asked where it reaches the bot."""
    single = inventory({"bot1": ["runtime"], "lb": ["nginx"]})
    assert fronts_beside(single, ("bot1",)) == ("lb",)
    assert drained_at(single, "bot1") == ()


def test_front_that_refuses_to_drain_is_reported() -> None:
    session = Fronts(lambda _: (False, "the last one that serves"))
    drain = Drain(session, inventory(CLUSTER), "bot2")  # type: ignore[arg-type]
    with pytest.raises(HostError, match="cannot drain bot2 at lb: the last one"):
        drain.begin()
    assert "cannot restore" in drain.end()[0]
