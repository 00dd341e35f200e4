"""prometheus.yml and the rules as Prometheus gets them, and whether it takes them."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploys.alertmanager.config import arguments as alertmanager_arguments
from deploys.component import Need
from deploys.exporters.exporter import CERTIFICATE, defaults_text
from deploys.prometheus.config import RULES, arguments, config
from deploys.prometheus.rules import rules, rules_text
from deploys.prometheus.settings import PrometheusSettings, needs_for, settings_for
from deploys.resources import HostResources
from deploys.tls.certificate import new_authority
from tests.deploys.golden import assert_golden
from tests.deploys.inventories import REMOTE, inventory
from tests.deploys.monitoring import monitored
from tests.deploys.nginx.front import internal_certificate
from tests.deploys.prometheus.tools import program

UNKNOWN = HostResources(None, None)

GOLDEN = Path(__file__).parent / "golden"
TEAM = {
    "bot1": ["runtime"],
    "bot2": ["runtime"],
    "front": ["nginx"],
    "db": ["database"],
    "watch": ["monitoring"],
}


def team() -> PrometheusSettings:
    settings = settings_for(monitored(TEAM, database={"password": "0123456789abcdef"}), "watch")
    assert settings
    return settings


def test_prometheus_configuration_and_rules_equal_golden_files_and_promtool_accepts_them(
    tmp_path: Path,
) -> None:
    settings = team()
    text = rules_text(rules(settings), settings.evaluation_interval)
    assert_golden(GOLDEN / "prometheus.yml", config(settings))
    assert_golden(GOLDEN / "clawd-rules.yml", text)
    (tmp_path / "rules.yml").write_text(text)
    internal_certificate(tmp_path, new_authority("clawd", datetime.now(UTC)), "10.0.0.5")
    text = config(settings).replace(RULES, str(tmp_path / "rules.yml")).replace(CERTIFICATE, str(tmp_path))
    (tmp_path / "prometheus.yml").write_text(text)
    words = [program("promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    checked = subprocess.run(words, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules(settings))} rules found" in checked.stdout


def test_other_prometheus_files_equal_golden_files() -> None:
    assert_golden(GOLDEN / "prometheus.default", defaults_text(arguments(team())))
    assert_golden(GOLDEN / "prometheus-alertmanager.default", defaults_text(alertmanager_arguments()))


def test_only_the_monitoring_host_has_prometheus() -> None:
    assert settings_for(monitored(), "bot1") is None
    assert settings_for(inventory(), "bot1") is None


def test_engine_is_scraped_only_with_a_local_model() -> None:
    def jobs(**changes: Any) -> set[str]:
        settings = settings_for(monitored(**changes), "watch")
        assert settings
        return {job.name for job in settings.jobs}

    assert "clawd-engine" in jobs()
    assert "clawd-engine" not in jobs(models={"default": REMOTE})


def test_retention_is_limited_by_declared_size() -> None:
    declared = monitored(monitoring={"retention_size": "8G"})
    settings = settings_for(declared, "watch")
    assert settings
    assert "--storage.tsdb.retention.size=8GB" in arguments(settings)
    memory, disk = needs_for(declared, "watch", UNKNOWN)
    assert isinstance(memory, Need)
    assert disk.disk == int(8 * 1024**3 * 1.1)
    assert memory.how == "memory: 96 MiB + 2 hosts of 1600 series of 8 KiB; disk: programs 100 MiB"
