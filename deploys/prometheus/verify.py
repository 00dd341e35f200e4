"""Checks of Prometheus, read-only: what it says of itself."""

from __future__ import annotations

import json
import time
from typing import Any

from deploys.ops.checks import runs_as_started
from deploys.prometheus.config import CONFIG, RULES, config
from deploys.prometheus.deploy import READS, UNIT
from deploys.prometheus.rules import rules, rules_text
from deploys.prometheus.settings import PORT, PrometheusSettings


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    assert runs_as_started(host, f"{UNIT}.service", watch=READS)
    assert host.service(UNIT).is_enabled


def test_configuration_is_as_declared(host: Any, settings: PrometheusSettings) -> None:
    assert host.file(CONFIG).content_string == config(settings)
    assert host.file(RULES).content_string == rules_text(rules(settings), settings.evaluation_interval)
    checked = host.run("promtool check config %s", CONFIG)
    assert checked.rc == 0, checked.stderr


def test_every_target_is_up(host: Any, settings: PrometheusSettings) -> None:
    seen = targets(host)
    assert seen.keys() == {(job.name, target.host) for job in settings.jobs for target in job.targets}
    # What was asked before it had started is asked once more: that may be as long ago as the interval.
    asked = {place: target["lastScrape"] for place, target in seen.items()}
    deadline = time.monotonic() + 1.5 * settings.scrape_interval
    while any(seen[place]["lastScrape"] == asked[place] for place in down(seen)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
        seen = targets(host)
    assert not down(seen)


def test_every_rule_is_evaluated(host: Any, settings: PrometheusSettings) -> None:
    groups = api(host, "/api/v1/rules?type=alert")["groups"]
    seen = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert seen.keys() == {rule.name for rule in rules(settings)}
    assert [name for name, health in seen.items() if health == "err"] == []


def test_alertmanager_is_known(host: Any) -> None:
    assert len(api(host, "/api/v1/alertmanagers")["activeAlertmanagers"]) == 1


def test_only_this_host_reaches_it(host: Any) -> None:
    listening = host.check_output("ss -Hltn sport = :%s", str(PORT)).splitlines()
    assert [line.split()[3] for line in listening] == [f"127.0.0.1:{PORT}"]


def targets(host: Any) -> dict[tuple[str, str], Any]:
    """What Prometheus knows of every target, by job and host."""
    active = api(host, "/api/v1/targets?state=active")["activeTargets"]
    return {(target["labels"]["job"], target["labels"]["host"]): target for target in active}


def down(seen: dict[tuple[str, str], Any]) -> dict[tuple[str, str], str]:
    """The targets that did not answer, and why."""
    return {place: target["lastError"] for place, target in seen.items() if target["health"] == "down"}


def api(host: Any, path: str) -> Any:
    """`data` of an answer of Prometheus' API."""
    told = json.loads(host.check_output("python3 -c %s %s", ASK, f"http://127.0.0.1:{PORT}{path}"))
    assert told["status"] == "success", told
    return told["data"]


ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"
