"""Everything is installed, found damaged, repaired and removed by the program: a story in this order."""

from __future__ import annotations

import re
from typing import Any

from deploys.registry import BY_NAME
from tests.component_lifecycle.damages import DAMAGES
from tests.component_lifecycle.deployment import Life
from tests.component_lifecycle.kept import ACCOUNTS, FOUND_AGAIN, KEPT, MAKE_DATA
from tests.host_snapshot import MAY_DIFFER, differences

# Certificates are issued again; their hourly look locks.
REISSUED = (*MAY_DIFFER, "/etc/clawd/tls.d", "/etc/clawd/tls ->", "/var/lib/clawd/state/tls.lock")


def unlike_before(life: Life, *but: str) -> dict[str, frozenset[str]]:
    """What is on each host that was not there, or is no more, since the first inventory of little."""
    now = life.look_at_all()
    return {
        host: differences(life.records["least"][host], now[host], but=(*REISSUED, *but))
        for host in life.hosts
    }


def failed(verified: dict[str, Any]) -> set[tuple[str, str]]:
    """The hosts and components of which a check does not hold."""
    return {(item["host"], item["component"]) for item in verified["checks"] if item["outcome"] == "failed"}


def test_up_installs_every_component_and_second_up_changes_nothing(life: Life) -> None:
    life.records["bare"] = life.look_at_all()
    life.least()
    life.up("--no-verify")
    life.records["least"] = life.look_at_all()
    life.most()
    first = life.up("--no-verify")
    print({host: len(changed) for host, changed in first.items()})
    assert life.up() == {host: [] for host in life.hosts}
    verified = life.document("verify")["verification"]
    assert {item["component"] for item in verified["checks"]} == set(BY_NAME)


def test_verify_and_drift_report_damage_of_every_component_and_up_repairs_only_that(life: Life) -> None:
    for item in DAMAGES:
        life.on(item.host, item.done)
    verified = life.document("verify", expect=1)["verification"]
    assert failed(verified) == {(item.host, item.component) for item in DAMAGES}
    assert {item.component for item in DAMAGES} == set(BY_NAME)
    for item in DAMAGES:
        said = [
            f"{check['name']}: {check['message']}"
            for check in verified["checks"]
            if (check["host"], check["component"], check["outcome"]) == (item.host, item.component, "failed")
        ]
        assert item.named in "\n".join(said), (item, said)
    drifted = life.document("drift", expect=3)["message"]
    assert all(host in drifted for host in life.hosts)
    document = life.document("up", "--yes")
    changed = {
        host["host"]: {re.sub("(: Push) .*", r"\1", line) for line in host["changed"]}
        for host in document["result"]["hosts"]
    }
    wanted = {
        host: {name for item in DAMAGES if item.host == host for name in item.operations}
        for host in life.hosts
    }
    nothing: dict[str, set[str]] = {host: set() for host in life.hosts}
    assert {host: wanted[host] - changed[host] for host in life.hosts} == nothing, "not repaired"
    assert {host: changed[host] - wanted[host] for host in life.hosts} == nothing, "changed without need"
    assert failed(document["verification"]) == set()
    assert life.document("plan")["plan"]["changes"] == 0


def test_dropped_components_are_removed_and_only_their_data_is_kept(life: Life) -> None:
    for host, command in MAKE_DATA:
        life.on(host, command)
    life.least()
    life.up("--no-verify")
    # Of the folders of measurements themselves, not of what Prometheus divides them into.
    measured = ("/var/lib/clawd-prometheus/", "/var/lib/clawd-alertmanager/")
    left = unlike_before(life, *ACCOUNTS, *measured, "/var/lib/clawd/state/left")
    assert left == KEPT
    # What is little has a bot without a model: it was not verified, and would not pass.
    assert life.document("plan", expect=2)["plan"]["changes"] == 0


def test_kept_data_is_used_again_after_reinstallation(life: Life) -> None:
    life.most()
    life.up()
    for host, command, found in FOUND_AGAIN:
        assert found in life.on(host, command).stdout, command


def test_purge_removes_the_data_too(life: Life) -> None:
    life.least()
    life.up("--no-verify", "--purge")
    assert unlike_before(life) == dict.fromkeys(life.hosts, frozenset())


def test_remove_with_purge_restores_the_bare_hosts(life: Life) -> None:
    assert life.document("remove", "--purge", "--yes")["result"]["succeeded"]
    now = life.look_at_all()
    left = {host: differences(life.records["bare"][host], now[host]) for host in life.hosts}
    assert left == dict.fromkeys(life.hosts, frozenset())
