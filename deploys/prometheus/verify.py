"""Checks of Prometheus, read-only: its own reports."""

from __future__ import annotations

import json
import time
from typing import Any

from deploys.ops.checks import (
    expect,
    expect_content,
    expect_listening,
    expect_original,
    expect_started_with,
    said,
)
from deploys.prometheus.config import CONFIG, RULES, config
from deploys.prometheus.deploy import READS, UNIT
from deploys.prometheus.rules import rules, rules_text
from deploys.prometheus.settings import PrometheusSettings
from deploys.topology.monitoring import PROMETHEUS_PORT


def test_runs_with_what_is_on_the_disk(host: Any) -> None:
    expect_started_with(host, f"{UNIT}.service", watch=READS)
    expect_original(host, "/usr/bin/prometheus")


def test_configuration_is_as_declared(host: Any, settings: PrometheusSettings) -> None:
    expect_content(host, CONFIG, config(settings))
    expect_content(host, RULES, rules_text(rules(settings), settings.evaluation_interval))
    checked = host.run("promtool check config %s", CONFIG)
    expect(checked.rc == 0, f"promtool refuses {CONFIG}: {said(checked)}")


def test_every_target_is_up(host: Any, settings: PrometheusSettings) -> None:
    seen = targets(host)
    wanted = {(job.name, target.host) for job in settings.jobs for target in job.targets}
    differing = ", ".join(f"{job} of {name}" for job, name in sorted(seen.keys() ^ wanted))
    expect(not differing, f"Prometheus watches other targets than declared: {differing}")
    # Targets that were scraped before they started are scraped again, after one interval at the latest.
    first_scrapes = {place: target["lastScrape"] for place, target in seen.items()}
    deadline = time.monotonic() + 1.5 * settings.scrape_interval
    while any(seen[place]["lastScrape"] == first_scrapes[place] for place in down(seen)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.5)
        seen = targets(host)
    silent = "; ".join(f"{job} of {name}: {why}" for (job, name), why in sorted(down(seen).items()))
    expect(not silent, f"Prometheus does not reach {silent}", "run `verify` for those hosts")


def test_every_rule_is_evaluated(host: Any, settings: PrometheusSettings) -> None:
    groups = api(host, "/api/v1/rules?type=alert")["groups"]
    seen = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    differing = ", ".join(sorted(seen.keys() ^ {rule.name for rule in rules(settings)}))
    expect(not differing, f"Prometheus has other alert rules than declared: {differing}")
    faulty = ", ".join(sorted(name for name, health in seen.items() if health == "err"))
    expect(not faulty, f"alert rules cannot be evaluated: {faulty}")


def test_alertmanager_is_known(host: Any) -> None:
    known = len(api(host, "/api/v1/alertmanagers")["activeAlertmanagers"])
    expect(known == 1, f"Prometheus knows {known} Alertmanagers, and should know one")


def test_only_this_host_reaches_it(host: Any) -> None:
    expect_listening(host, PROMETHEUS_PORT, {"127.0.0.1"}, "Prometheus")


def targets(host: Any) -> dict[tuple[str, str], Any]:
    """Return what Prometheus reports about every target, by job and host."""
    active = api(host, "/api/v1/targets?state=active")["activeTargets"]
    return {(target["labels"]["job"], target["labels"]["host"]): target for target in active}


def down(seen: dict[tuple[str, str], Any]) -> dict[tuple[str, str], str]:
    """Return the targets that did not answer, and why."""
    return {place: target["lastError"] for place, target in seen.items() if target["health"] == "down"}


def api(host: Any, path: str) -> Any:
    """Return `data` of an answer of Prometheus' API."""
    answer = json.loads(
        host.check_output("python3 -c %s %s", ASK, f"http://127.0.0.1:{PROMETHEUS_PORT}{path}")
    )
    expect(answer["status"] == "success", f"Prometheus answers {path} with {answer.get('error', answer)}")
    return answer["data"]


ASK = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"
