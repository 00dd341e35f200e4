"""Roll out releases under load without a failed request; a broken one is stopped at the first bot."""

from __future__ import annotations

import time
from collections import Counter

from tests.cluster.deployment import Cluster, People
from tests.standins.control import Control

REQUESTS = 10_000


def test_second_up_changes_nothing(deployed: Cluster) -> None:
    printed = deployed.json("up", "-i", "e2e", "--yes")
    assert {host["host"]: host["changed"] for host in printed["result"]["hosts"]} == {
        host: [] for host in deployed.hosts
    }
    assert deployed.json("verify", "-i", "e2e")["verification"]["failed"] == 0


def test_rolling_release_under_load_fails_loses_and_repeats_no_request(
    deployed: Cluster, telegram: Control, feishu: Control
) -> None:
    releases = 0
    with People(telegram, feishu) as people:
        people.wait_for(300, 60)
        while len(people.asked) < REQUESTS:
            releases += 1
            deployed.program = deployed.another_release(f"release-{releases}")
            print(f"{time.strftime('%H:%M:%S')} release {releases}, {len(people.asked)} messages written")
            printed = deployed.json("up", "-i", "e2e", "--yes", "--no-verify")
            changed = {host["host"]: host["changed"] for host in printed["result"]["hosts"]}
            assert all(any("clawd-bot" in line for line in changed[app]) for app in ("app1", "app2")), changed
    expect_all_answered(people)
    assert people.deliveries() >= REQUESTS
    assert releases >= 2
    print(f"{people.deliveries()} requests, {releases} releases")


def test_changing_bot_port_and_back_under_load_fails_no_request(
    deployed: Cluster, telegram: Control, feishu: Control
) -> None:
    with People(telegram, feishu, name="port") as people:
        people.wait_for(100, 60)
        for port in (9444, 8444):
            deployed.inventory(internal_port=port)
            printed = deployed.json("up", "-i", "e2e", "--yes", "--no-verify")
            changed = {host["host"]: host["changed"] for host in printed["result"]["hosts"]}
            for app in ("app1", "app2"):
                # Once to listen at both ports, and once to leave the former one.
                assert sum("Service clawd-bot" in line for line in changed[app]) == 2, changed
                listening = deployed.on(app, "ss -Hltn | grep -cE ':(8444|9444) '").stdout
                assert listening.split() == ["1"]
            assert f":{port}" in deployed.on("front", "/usr/local/lib/clawd/upstream status").stdout
    expect_all_answered(people)
    assert deployed.json("verify", "-i", "e2e")["verification"]["failed"] == 0
    assert deployed.json("plan", "-i", "e2e")["plan"]["changes"] == 0


def expect_all_answered(people: People) -> None:
    """Assert that every message was delivered at once, and answered once."""
    deadline = time.monotonic() + 300
    while sum(people.answers().values()) < len(people.asked) and time.monotonic() < deadline:
        time.sleep(1)
    answers = people.answers()
    assert people.failed_deliveries() == Counter()
    assert [text for text in people.asked if answers[text] == 0] == []
    assert [text for text, times in answers.items() if times > 1] == []
    assert set(answers) == set(people.asked)


def test_broken_release_stops_at_the_first_bot_and_is_rolled_back(
    deployed: Cluster, telegram: Control, feishu: Control
) -> None:
    broken = deployed.another_release("broken")
    (broken / "runtime" / "clawd_runtime" / "bot" / "__main__.py").write_text("raise SystemExit(1)\n")
    before = {app: deployed.on(app, "readlink /opt/clawd/current").stdout for app in ("app1", "app2")}
    working, deployed.program = deployed.program, broken
    try:
        with People(telegram, feishu) as people:
            printed = deployed.json("up", "-i", "e2e", "--yes", expect=4)
    finally:
        deployed.program = working
    assert {host["host"]: host["status"] for host in printed["result"]["hosts"]} == {
        "front": "done",
        "app1": "rolled back",
        "app2": "not begun",
        "data": "done",
    }
    assert {app: deployed.on(app, "readlink /opt/clawd/current").stdout for app in before} == before
    assert people.failed_deliveries() == Counter()
    # Nothing would change, but what went back was not verified.
    assert deployed.json("plan", "-i", "e2e", expect=2)["plan"]["changes"] == 0
    upstream = deployed.on("front", "/usr/local/lib/clawd/upstream status").stdout
    assert "down" not in upstream, upstream
