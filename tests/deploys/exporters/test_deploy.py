"""What the components of monitoring would do on a bare host, and what they would take down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploys.database.backups import METRICS_FILE, UnreportedFact
from deploys.exporters.database import ExporterLoginFact, LoginState
from deploys.grafana.deploy import GrafanaLoginFact
from deploys.grafana.package import InstalledFileFact
from deploys.nvidia import gpus
from deploys.ops.accounts import GroupFact, UserFact, UserState
from deploys.ops.debian.packages import BroughtFact, WantedFact
from deploys.ops.facts import OsReleaseFact, PackagesFact, PathFact, PathState, UnitFact, UnitState
from deploys.ops.paths.push import RecordsFact
from deploys.registry import BY_NAME
from deploys.runtime.prune import Entries, EntriesFact
from deploys.tls.certificate import Installed
from deploys.tls.deploy import CertificateFact
from inventory.errors import ArtifactError
from inventory.model import Inventory
from tests.deploys.harness import Machine, Run
from tests.deploys.monitoring import ALERTS, GRAFANA, monitored

BARE: dict[Any, Any] = {
    PathFact: PathState(),
    PackagesFact: frozenset(),
    WantedFact: frozenset(),
    BroughtFact: None,
    RecordsFact: (),
    UnitFact: UnitState(),
    CertificateFact: Installed(),
    OsReleaseFact: ("debian", "12"),
    gpus.GpuMachineFact: gpus.GpuMachine(),
    ExporterLoginFact: LoginState(),
    UnreportedFact: False,
    GrafanaLoginFact: None,
    InstalledFileFact: "",
    EntriesFact: Entries(),
    UserFact: None,
    GroupFact: None,
}
DATABASE = {"password": "0123456789abcdef"}


def plan(component: str, declared: Inventory, host: str, folder: Path, **facts: Any) -> Run:
    found = BY_NAME[component]
    data = {component: found.settings_for(declared, host), "supplies": {"state_folder": str(folder)}}
    named = {fact: facts.pop(fact.__name__) for fact in BARE if fact.__name__ in facts}
    return Machine(data, facts={**BARE, **named}).run(found.apply, execute=False)


def paths(run: Run) -> list[str]:
    return [change.path for change in run.changes]


def test_exporter_arguments_are_written_before_the_package_is_installed(tmp_path: Path) -> None:
    changed = paths(plan("exporters", monitored(), "bot1", tmp_path))
    assert changed == [
        "user prometheus",
        "/etc/clawd/monitoring/fullchain.pem",
        "/etc/clawd/monitoring/privkey.pem",
        "/etc/prometheus",
        "/etc/prometheus/clawd-web.yml",
        "/var/lib/clawd/node-exporter",
        "/etc/default/prometheus-node-exporter",
        "/etc/systemd/system/prometheus-node-exporter.service.d",
        "/etc/systemd/system/prometheus-node-exporter.service.d/clawd.conf",
        "packages",
        "prometheus-node-exporter.service",
        "/etc/default/prometheus-nginx-exporter",
        "/etc/systemd/system/prometheus-nginx-exporter.service.d",
        "/etc/systemd/system/prometheus-nginx-exporter.service.d/clawd.conf",
        "packages",
        "prometheus-nginx-exporter.service",
        "/usr/local/lib/clawd",
        "/usr/local/lib/clawd/certificate-metrics",
        "/etc/systemd/system/clawd-certificate-metrics.service",
        "/etc/systemd/system/clawd-certificate-metrics.timer",
        "clawd-certificate-metrics.timer",
    ]


def test_exporter_of_a_removed_role_is_removed(tmp_path: Path) -> None:
    hosts = {"bot1": ["runtime"], "front": ["nginx"], "watch": ["monitoring"]}
    there = UnitState(load="loaded", active="active", enabled="enabled")
    run = plan("exporters", monitored(hosts), "bot1", tmp_path, UnitFact=there)
    stopped = {change.path for change in run.changes if change.diff == ("stop and disable",)}
    assert "prometheus-nginx-exporter.service" in stopped
    assert "prometheus-node-exporter.service" not in stopped


def test_unused_monitoring_certificate_is_removed(tmp_path: Path) -> None:
    there = PathState("directory", "0755", "root", "root")
    alone = {"watch": ["runtime", "nginx", "monitoring"]}
    for hosts, tls, goes in (
        (alone, {"mode": "own-ca"}, False),
        (alone, {"mode": "self-signed"}, True),
        (None, {"mode": "self-signed"}, False),
    ):
        declared = monitored(hosts, tls=tls) if hosts else monitored(tls=tls)
        run = plan("exporters", declared, "watch", tmp_path, PathFact=there)
        gone = {change.path for change in run.changes if change.diff == ("removed",)}
        assert ({"/etc/clawd/monitoring", "/etc/clawd/monitoring.d"} <= gone) is goes


def test_gpu_metrics_are_installed_on_hosts_with_a_gpu(tmp_path: Path) -> None:
    changed = paths(
        plan(
            "exporters",
            monitored(),
            "bot1",
            tmp_path,
            GpuMachineFact=gpus.GpuMachine((gpus.Gpu("0000:01:00.0", 0x27B8),)),
        )
    )
    assert changed[-9:-5] == [
        "/usr/local/lib/clawd-gpu-metrics",
        "/etc/systemd/system/clawd-gpu-metrics.service",
        "/etc/systemd/system/clawd-gpu-metrics.timer",
        "clawd-gpu-metrics.timer",
    ]


@pytest.mark.parametrize(
    ("rights", "changes"), [("", True), ("t,t,f,f,f,f,pg_monitor", True), ("t,f,f,f,f,f,pg_monitor", False)]
)
def test_postgresql_login_of_the_exporter_gets_only_pg_monitor(
    tmp_path: Path, rights: str, changes: bool
) -> None:
    hosts = {"bot1": ["runtime", "nginx"], "db": ["database"], "watch": ["monitoring"]}
    declared = monitored(hosts, database=DATABASE)
    run = plan("exporters", declared, "db", tmp_path, ExporterLoginFact=LoginState(True, rights))
    assert ("PostgreSQL login prometheus" in paths(run)) is changes


@pytest.mark.parametrize("unreported", [True, False])
def test_existing_backup_without_metrics_is_exported(tmp_path: Path, unreported: bool) -> None:
    hosts = {"bot1": ["runtime", "nginx"], "db": ["database"], "watch": ["monitoring"]}
    declared = monitored(hosts, database=DATABASE)
    run = plan("exporters", declared, "db", tmp_path, UnreportedFact=unreported)
    assert (METRICS_FILE in paths(run)) is unreported
    if unreported:
        assert paths(run).index("prometheus-node-exporter.service") < paths(run).index(METRICS_FILE)
    assert METRICS_FILE not in paths(plan("exporters", declared, "bot1", tmp_path, UnreportedFact=True))


def test_plan_shows_no_secret(tmp_path: Path) -> None:
    key = tmp_path / "gpg.key"
    key.write_bytes(b"key")
    declared = monitored(monitoring={"alerts": ALERTS, "grafana": {**GRAFANA, "key": str(key)}})
    for component in ("alertmanager", "grafana"):
        run = plan(component, declared, "watch", tmp_path)
        shown = repr(run.names) + repr(run.changes)
        assert ALERTS["token"] not in shown
        assert GRAFANA["admin_password"] not in shown
        assert any(change.secret for change in run.changes)


def test_grafana_is_installed_from_its_repository(tmp_path: Path) -> None:
    key = tmp_path / "gpg.key"
    key.write_bytes(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    declared = monitored(
        monitoring={"grafana": {**GRAFANA, "key": str(key), "repository": "http://mirror/grafana/"}}
    )
    run = plan("grafana", declared, "watch", tmp_path)
    source = next(change for change in run.changes if change.path.endswith("clawd-grafana.sources"))
    assert "+URIs: http://mirror/grafana" in source.diff
    assert paths(run).index(source.path) < paths(run).index("packages")


@pytest.mark.parametrize("name", ["key", "package"])
def test_missing_key_or_package_of_grafana_is_refused(tmp_path: Path, name: str) -> None:
    grafana = {"admin_password": "a-password-of-grafana", name: str(tmp_path / "missing")}
    with pytest.raises(ArtifactError, match="missing"):
        plan("grafana", monitored(monitoring={"grafana": grafana}), "watch", tmp_path)


def test_grafana_password_is_set_when_the_declared_one_is_refused(tmp_path: Path) -> None:
    key = tmp_path / "gpg.key"
    key.write_bytes(b"key")
    declared = monitored(monitoring={"grafana": {**GRAFANA, "key": str(key)}})
    data = {"grafana": BY_NAME["grafana"].settings_for(declared, "watch")}
    for taken, changes in ((False, True), (True, False), (None, False)):
        machine = Machine(data, facts={**BARE, GrafanaLoginFact: taken})
        run = machine.run(BY_NAME["grafana"].apply, execute=False)
        assert ("password of Grafana's admin" in paths(run)) is changes


@pytest.mark.parametrize("purge", [False, True])
def test_removal_keeps_measurements_unless_purged(purge: bool) -> None:
    there = {
        **BARE,
        PathFact: PathState("directory", "0750", "prometheus", "prometheus"),
        UserFact: UserState("/var/lib/prometheus", "prometheus"),
        UnitFact: UnitState(load="loaded", active="active", enabled="enabled"),
        BroughtFact: frozenset({"prometheus"}),
    }
    gone: list[str] = []
    for component in ("grafana", "alertmanager", "prometheus", "exporters"):
        run = Machine({"purge": purge}, facts=there).run(BY_NAME[component].remove, execute=False)
        gone += [change.path for change in run.changes if not change.diff[0].startswith("stays")]
    data = {"/var/lib/clawd-prometheus", "/var/lib/clawd-alertmanager", "/var/lib/grafana", "user prometheus"}
    assert data & set(gone) == (data if purge else set())
    assert {"/etc/prometheus/clawd-alerts-token", "/etc/grafana", "/etc/clawd/monitoring"} <= set(gone)
