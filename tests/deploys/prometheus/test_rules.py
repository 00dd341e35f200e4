"""Every alert rule, as Prometheus itself evaluates it: by what it fires, and by what it does not."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploys.prometheus.rules import rules, rules_text
from deploys.prometheus.settings import PrometheusSettings, settings_for
from tests.deploys import metrics
from tests.deploys.inventories import inventory
from tests.deploys.prometheus.tools import program

HOSTS = {"bot1": ["runtime", "nginx"], "watch": ["monitoring"]}
BOT = 'job="clawd-bot",host="bot1"'
Series = dict[str, str]
"""Values, one a minute in promtool's notation, by series."""


def settings(**monitoring: Any) -> PrometheusSettings:
    found = settings_for(inventory(HOSTS, monitoring=monitoring), "watch")
    assert found is not None
    return found


def histogram(name: str, labels: str, **buckets: int) -> Series:
    """Observations a minute up to each bound, `le_1_5=90` for 1.5; of the last bound all."""
    bounds = {bound.removeprefix("le_").replace("_", "."): count for bound, count in buckets.items()}
    everything = max(bounds.values())
    return {
        f'{name}_bucket{{{labels},le="{bound}"}}': f"0+{count}x40"
        for bound, count in {**bounds, "+Inf": everything}.items()
    }


def requests(status: str, a_minute: int, path: str = "/telegram/webhook") -> Series:
    labels = f'{BOT},method="POST",path="{path}",status="{status}"'
    return {f"http_request_duration_seconds_count{{{labels}}}": f"0+{a_minute}x40"}


def messages(outcome: str, a_minute: int, channel: str = "telegram") -> Series:
    return {f'clawd_messages_total{{{BOT},channel="{channel}",outcome="{outcome}"}}': f"0+{a_minute}x40"}


def answers(seconds_a_minute: float, count: int) -> Series:
    engine = 'job="clawd-engine",host="bot1"'
    return {
        f"clawd_engine_queue_seconds_sum{{{engine}}}": f"0+{seconds_a_minute / 4}x40",
        f"clawd_engine_prefill_seconds_sum{{{engine}}}": f"0+{seconds_a_minute * 3 / 4}x40",
        f"clawd_engine_prefill_seconds_count{{{engine}}}": f"0+{count}x40",
    }


def constant(series: str, value: float) -> Series:
    return {series: f"{value}x40"}


def latency(path: str = "/telegram/webhook", **buckets: int) -> Series:
    labels = f'{BOT},method="POST",path="{path}",status="200"'
    return histogram("http_request_duration_seconds", labels, **buckets)


def memory(available: float) -> Series:
    node = 'job="node",host="bot1"'
    return constant(f"node_memory_MemAvailable_bytes{{{node}}}", available) | constant(
        f"node_memory_MemTotal_bytes{{{node}}}", 100
    )


def disk(available: float, fstype: str = "ext4") -> Series:
    labels = f'job="node",host="bot1",mountpoint="/",fstype="{fstype}"'
    return constant(f"node_filesystem_avail_bytes{{{labels}}}", available) | constant(
        f"node_filesystem_size_bytes{{{labels}}}", 100
    )


@dataclass(frozen=True)
class Case:
    """Series with which a rule fires, or (`quiet`) does not."""

    alert: str
    name: str
    series: Series
    fires: bool


def fires(alert: str, series: Series, name: str = "beyond") -> Case:
    return Case(alert, name, series, True)


def quiet(alert: str, series: Series, name: str = "within") -> Case:
    return Case(alert, name, series, False)


DEPTH = f'clawd_outbox_depth{{{BOT},state="doubtful"}}'
EXPIRY = 'probe_ssl_earliest_cert_expiry{job="front",host="bot1"}'
RENEWAL = 'clawd_tls_renewal_failed{job="node",host="bot1"}'
OF_SERVICE = 'clawd_certificate_not_after_seconds{job="node",host="db",service="database"}'
BACKUP = 'clawd_database_backup_success{job="node",host="db"}'
DUMPED = 'clawd_database_backup_last_success_timestamp_seconds{job="node",host="db"}'
HOUR, DAY = 3600, 86400
CASES = (
    fires("HighLatency", latency(le_1_5=98, le_3_0=100)),
    quiet("HighLatency", latency(le_1_5=995, le_3_0=1000)),
    quiet("HighLatency", latency(le_1_5=0, le_3_0=0), "no traffic"),
    quiet("HighLatency", latency(path="/metrics", le_1_5=0, le_3_0=100), "only Prometheus waits"),
    quiet(
        "HighLatency",
        {
            series: f"0+0x24 0+{2 if '1.5' in series else 100}x1 0x20"
            for series in latency(le_1_5=2, le_3_0=100)
        },
        "a moment",
    ),
    fires(
        "SlowMessages",
        histogram("clawd_handling_seconds", f'{BOT},channel="telegram"', le_0_9=90, le_1_5=100),
    ),
    quiet(
        "SlowMessages",
        histogram("clawd_handling_seconds", f'{BOT},channel="telegram"', le_0_9=96, le_1_5=100),
    ),
    quiet(
        "SlowMessages",
        histogram("clawd_handling_seconds", f'{BOT},channel="telegram"', le_0_9=0),
        "no traffic",
    ),
    fires("SlowModel", answers(9, 10)),
    quiet("SlowModel", answers(7, 10)),
    quiet("SlowModel", answers(0, 0), "no traffic"),
    fires("SlowModelLoad", constant('clawd_engine_model_load_seconds{host="bot1"}', 31)),
    quiet("SlowModelLoad", constant('clawd_engine_model_load_seconds{host="bot1"}', 30)),
    fires("RequestErrors", requests("200", 990) | requests("503", 6)),
    quiet("RequestErrors", requests("200", 996) | requests("503", 4)),
    quiet("RequestErrors", requests("200", 100) | requests("401", 50), "refused, not failed"),
    quiet("RequestErrors", requests("200", 0) | requests("503", 0), "no traffic"),
    quiet("RequestErrors", requests("200", 100) | requests("503", 9, "/readyz"), "only not ready"),
    fires("MessageErrors", messages("answered", 99) | messages("model_failed", 1)),
    fires("MessageErrors", messages("answered", 0) | messages("failed", 3), "all fail"),
    quiet("MessageErrors", messages("answered", 999) | messages("model_failed", 1)),
    quiet("MessageErrors", messages("answered", 0) | messages("failed", 0), "no traffic"),
    fires(
        "MessageGivenUp", {f'clawd_messages_total{{{BOT},channel="telegram",outcome="poison"}}': "0x25 1x15"}
    ),
    quiet("MessageGivenUp", messages("poison", 0)),
    fires("ModelDown", constant(f'clawd_model_usable{{{BOT},model="default"}}', 0)),
    quiet("ModelDown", constant(f'clawd_model_usable{{{BOT},model="default"}}', 0.5), "half-open"),
    fires("PolicyInvalid", constant(f"clawd_policy_valid{{{BOT}}}", 0)),
    quiet("PolicyInvalid", constant(f"clawd_policy_valid{{{BOT}}}", 1)),
    fires("DeliveriesFail", {DEPTH: "0x25 1x15"}),
    quiet("DeliveriesFail", constant(DEPTH, 3), "long ago"),
    fires("AlertsNotTold", {'alertmanager_notifications_failed_total{host="watch"}': "0+1x40"}),
    quiet("AlertsNotTold", constant('alertmanager_notifications_failed_total{host="watch"}', 5)),
    fires("MemoryHigh", memory(24)),
    quiet("MemoryHigh", memory(26)),
    fires("BotMemoryHigh", constant(f"process_resident_memory_bytes{{{BOT}}}", 0.76 * 400 * 2**20)),
    quiet("BotMemoryHigh", constant(f"process_resident_memory_bytes{{{BOT}}}", 0.74 * 400 * 2**20)),
    quiet("BotMemoryHigh", constant('process_resident_memory_bytes{job="node"}', 2**40), "another process"),
    fires("DiskFull", disk(14)),
    quiet("DiskFull", disk(16)),
    quiet("DiskFull", disk(0, "tmpfs"), "no disk"),
    fires("TooManySessions", constant(f"clawd_inbox_depth{{{BOT}}}", 501)),
    quiet("TooManySessions", constant(f"clawd_inbox_depth{{{BOT}}}", 500)),
    fires("CertificateExpires", constant(EXPIRY, 9 * DAY)),
    quiet("CertificateExpires", constant(EXPIRY, 11 * DAY)),
    fires("CertificateNotRenewed", constant(RENEWAL, 1)),
    quiet("CertificateNotRenewed", constant(RENEWAL, 0)),
    quiet("CertificateNotRenewed", {RENEWAL: "0x26 1 0x20"}, "the next attempt succeeds at once"),
    fires("ServiceCertificateExpires", constant(OF_SERVICE, 29 * DAY)),
    fires("ServiceCertificateExpires", constant(OF_SERVICE, 0), "cannot be read"),
    quiet("ServiceCertificateExpires", constant(OF_SERVICE, 31 * DAY)),
    fires("BackupFailed", constant(BACKUP, 0)),
    quiet("BackupFailed", constant(BACKUP, 1)),
    quiet("BackupFailed", {BACKUP: "1x26 0 1x20"}, "restored at once"),
    # promtool's clock begins at 0: half an hour later, a dump made then is half an hour old.
    fires("BackupOld", constant(DUMPED, -26 * HOUR)),
    quiet("BackupOld", constant(DUMPED, -25 * HOUR)),
    quiet("BackupOld", {DUMPED: f"{-27 * HOUR}x20 0x20"}, "made in time"),
    fires("GpuHot", constant('clawd_gpu_temperature_celsius{gpu="0",host="bot1"}', 86)),
    quiet("GpuHot", constant('clawd_gpu_temperature_celsius{gpu="0",host="bot1"}', 85)),
    fires("BotDown", constant(f"up{{{BOT}}}", 0)),
    quiet("BotDown", constant(f"up{{{BOT}}}", 1)),
    quiet("BotDown", {f"up{{{BOT}}}": "1x28 0 1x20"}, "one scrape fails"),
    fires("EngineDown", constant('up{job="clawd-engine",host="bot1"}', 0)),
    quiet("EngineDown", constant('up{job="clawd-engine",host="bot1"}', 1)),
    fires("HostDown", constant('up{job="node",host="bot1"}', 0)),
    quiet("HostDown", constant('up{job="node",host="bot1"}', 1)),
    fires("FrontDown", constant('probe_success{job="front",host="bot1"}', 0)),
    quiet("FrontDown", constant('probe_success{job="front",host="bot1"}', 1)),
    fires("NginxDown", constant('nginx_up{host="bot1"}', 0)),
    quiet("NginxDown", constant('nginx_up{host="bot1"}', 1)),
    fires("DatabaseDown", constant('pg_up{host="db"}', 0)),
    quiet("DatabaseDown", constant('pg_up{host="db"}', 1)),
    fires("GpuGone", constant('clawd_gpu_up{host="bot1"}', 0)),
    quiet("GpuGone", constant('clawd_gpu_up{host="bot1"}', 1)),
    fires("NotMeasured", constant('up{job="nginx",host="bot1"}', 0)),
    quiet("NotMeasured", constant('up{job="clawd-bot",host="bot1"}', 0), "covered by another rule"),
)


def verdicts(
    folder: Path, cases: tuple[Case, ...], settings: PrometheusSettings
) -> subprocess.CompletedProcess[str]:
    """What promtool says of these cases after half an hour of their series."""
    (folder / "rules.yml").write_text(rules_text(rules(settings), 60))
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{case.alert}",alertstate="firing"}}) or vector(0)',
                    "eval_time": "30m",
                    "exp_samples": [{"labels": "{}", "value": int(case.fires)}],
                }
            ],
        }
        for case in cases
    ]
    (folder / "tests.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "tests": tests}))
    words = [program("promtool"), "test", "rules", "tests.yml"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60)


def test_every_alert_has_a_firing_and_a_quiet_case() -> None:
    names = {rule.name for rule in rules(settings())}
    assert {case.alert for case in CASES if case.fires} == names
    assert {case.alert for case in CASES if not case.fires} == names
    assert len(CASES) == len({(case.alert, case.name) for case in CASES})


def test_every_rule_reads_only_exported_metrics(tmp_path: Path) -> None:
    exported = metrics.of_ours(tmp_path) | metrics.OF_OTHERS
    read = {rule.name: metrics.read_by(rule.expr) for rule in rules(settings())}
    assert all(read.values())
    assert not {name: names - exported for name, names in read.items() if names - exported}


def test_read_by_returns_metric_names_of_an_expression() -> None:
    assert metrics.read_by('sum by (le, host) (rate(a_bucket{job="b",path!~"c|d"}[300s])) > 1.5e3') == {
        "a_bucket"
    }
    assert metrics.read_by("100 * (1 - a_x / b_y) > 75 and on (host) time() - c:z > 1h") == {
        "a_x",
        "b_y",
        "c:z",
    }


@pytest.mark.parametrize("name", sorted({case.alert for case in CASES}))
def test_alert_fires_and_stays_quiet_as_its_cases_expect(tmp_path: Path, name: str) -> None:
    cases = tuple(case for case in CASES if case.alert == name)
    said = verdicts(tmp_path, cases, settings())
    assert said.returncode == 0, said.stdout + said.stderr


def test_promtool_fails_for_a_wrong_case(tmp_path: Path) -> None:
    wrong = (quiet("HighLatency", latency(le_1_5=98, le_3_0=100)),)
    assert verdicts(tmp_path, wrong, settings()).returncode == 1


def test_alerts_use_declared_thresholds_and_durations(tmp_path: Path) -> None:
    slow = latency(le_1_5=98, le_3_0=100)
    wider = settings(thresholds={"request_seconds": 3})
    assert verdicts(tmp_path, (quiet("HighLatency", slow),), wider).returncode == 0
    patient = settings(sustained=3600)
    assert verdicts(tmp_path, (quiet("HighLatency", slow),), patient).returncode == 0


def test_alert_texts_have_numbers_with_units(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(rules_text(rules(settings()), 60))
    series = constant('clawd_engine_model_load_seconds{host="bot1"}', 42.5)
    alert = {
        "exp_labels": {"severity": "warning", "host": "bot1"},
        "exp_annotations": {
            "summary_en": "Loading the model took 42.5s, more than 30 s.",
            "summary_zh": "模型加载耗时 42.5s，超过 30 秒。",
        },
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": "30m", "alertname": "SlowModelLoad", "exp_alerts": [alert]}],
    }
    (tmp_path / "tests.yml").write_text(json.dumps({"rule_files": ["rules.yml"], "tests": [test]}))
    words = [program("promtool"), "test", "rules", "tests.yml"]
    said = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0, said.stdout + said.stderr
