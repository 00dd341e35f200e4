"""The ends of certificates that only `up` renews: exported as metrics and checked."""

from __future__ import annotations

import ast
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploys.exporters.certificates import METRIC, VALUES
from deploys.exporters.settings import ExportersSettings
from deploys.grafana.settings import GrafanaSettings
from deploys.nginx.settings import NginxSettings
from deploys.ops.checks import CheckFailed
from deploys.ops.paths.files import TEMPLATES, rendered
from deploys.prometheus.rules import rules
from deploys.registry import COMPONENTS
from deploys.runtime.settings import RuntimeSettings
from deploys.tls.certificate import new_certificate
from deploys.tls.settings import TlsSettings
from deploys.topology.certificates import CERTIFICATE_FOLDERS, LEAST_DAYS
from tests.deploys.monitoring import GRAFANA, monitored

APART = {"bot1": ["runtime"], "front": ["nginx"], "watch": ["monitoring"]}
DEPLOYS = TEMPLATES.parent / "deploys"


def certificate(folder: Path, *, days: float, lifetime: int = 365) -> datetime:
    """One in `folder` that ends in so many days; returns when."""
    begun = datetime.now(UTC) - timedelta(days=lifetime - days)
    made = new_certificate(TlsSettings(names=("10.0.0.4",), lifetime_days=lifetime), None, begun)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fullchain.pem").write_bytes(made.certificate_pem)
    return made.certificate.not_valid_after_utc


def asks_for_one(component: str) -> bool:
    """Whether a component's deploy calls `internal`."""
    tree = ast.parse((DEPLOYS / component / "deploy.py").read_text())
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return any(isinstance(function, ast.Name) and function.id == "internal" for function in called)


def test_every_component_with_a_certificate_has_metric_and_check_of_its_end() -> None:
    with_one = {component.name for component in COMPONENTS if asks_for_one(component.name)}
    assert with_one == set(CERTIFICATE_FOLDERS)
    for name in with_one:
        checks = import_module(f"deploys.{name}.verify")
        assert hasattr(checks, "test_certificate_does_not_end_soon"), name


def test_metrics_contain_expiry_and_zero_for_unreadable_certificates(tmp_path: Path) -> None:
    end = certificate(tmp_path / "database", days=200)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "fullchain.pem").write_text("not a certificate")
    (tmp_path / "dangling").symlink_to("nowhere")
    places = [f"{name}={tmp_path / name}" for name in ("database", "broken", "dangling", "missing")]
    output, program = tmp_path / "out.prom", tmp_path / "program"
    program.write_text(rendered("exporters/certificate-metrics", {}))
    done = subprocess.run(
        [sys.executable, "-I", program, output, *places], capture_output=True, text=True, check=True
    )
    (family,) = text_string_to_metric_families(output.read_text())
    assert family.name == METRIC
    assert {sample.labels["service"]: sample.value for sample in family.samples} == {
        "database": end.timestamp(),
        "broken": 0,
        "dangling": 0,
    }
    assert "broken/fullchain.pem" in done.stderr
    assert output.stat().st_mode & 0o777 == 0o644


def test_unit_measures_every_certificate_folder() -> None:
    unit = rendered("exporters/clawd-certificate-metrics.service", VALUES)
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    assert line.split()[4:] == [f"{name}={folder}" for name, folder in CERTIFICATE_FOLDERS.items()]


def test_expiry_alert_says_which_command_renews() -> None:
    settings = import_module("deploys.prometheus.settings").settings_for(monitored(), "watch")
    (rule,) = [rule for rule in rules(settings) if METRIC in rule.expr]
    assert f"< {LEAST_DAYS}" in rule.expr
    for text in (rule.en, rule.zh):
        assert "clawd-provision up" in text
        assert "$labels.service" in text


def host_with(folder: Path) -> Any:
    """A host whose files lie in `folder`, under any path."""

    def file(path: str) -> Any:
        found = folder / Path(path).name
        return SimpleNamespace(is_file=found.is_file(), content=found.read_bytes())

    return SimpleNamespace(file=file)


@pytest.mark.parametrize("name", sorted(CERTIFICATE_FOLDERS))
@pytest.mark.parametrize(
    ("days", "said"),
    [(LEAST_DAYS + 1, None), (LEAST_DAYS - 1, "ends on"), (-1, "ended on")],
)
def test_check_fails_before_a_certificate_expires(
    name: str, days: int, said: str | None, tmp_path: Path
) -> None:
    certificate(tmp_path, days=days)
    check = import_module(f"deploys.{name}.verify").test_certificate_does_not_end_soon
    declared = {"grafana": grafana, "exporters": exporters, "nginx": nginx, "runtime": runtime}
    settings = declared[name]() if name in declared else None
    arguments = (host_with(tmp_path),) if settings is None else (host_with(tmp_path), settings)
    if said is None:
        check(*arguments)
        return
    with pytest.raises(CheckFailed, match=f"{CERTIFICATE_FOLDERS[name]}/fullchain.pem {said}") as caught:
        check(*arguments)
    assert caught.value.hint == "run `up`, which renews it"


def test_check_fails_for_an_invalid_certificate_file(tmp_path: Path) -> None:
    (tmp_path / "fullchain.pem").write_text("")
    with pytest.raises(CheckFailed, match="is no certificate"):
        import_module("deploys.database.verify").test_certificate_does_not_end_soon(host_with(tmp_path))


def grafana() -> GrafanaSettings:
    opened = monitored(monitoring={"grafana": {**GRAFANA, "open_to": ["10.0.0.0/8"]}})
    found = import_module("deploys.grafana.settings").settings_for(opened, "watch")
    assert isinstance(found, GrafanaSettings)
    return found


def nginx() -> NginxSettings:
    found = import_module("deploys.nginx.settings").settings_for(monitored(APART), "front")
    assert isinstance(found, NginxSettings)
    return found


def runtime() -> RuntimeSettings:
    found = import_module("deploys.runtime.settings").settings_for(monitored(APART), "bot1")
    assert isinstance(found, RuntimeSettings)
    return found


def exporters() -> ExportersSettings:
    found = import_module("deploys.exporters.settings").settings_for(monitored(), "watch")
    assert isinstance(found, ExportersSettings)
    return found
