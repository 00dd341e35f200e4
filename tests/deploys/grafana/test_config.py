"""Grafana's files: read as YAML, by promtool, and by Grafana's own types."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from deploys.grafana.config import datasources, provider
from deploys.grafana.dashboards import dashboard_json
from deploys.grafana.deploy import values
from deploys.grafana.panels import Board, boards
from deploys.grafana.settings import GrafanaSettings, openings_for, settings_for
from deploys.ops.paths.files import rendered
from deploys.prometheus.rules import yaml_text
from inventory.sections.monitoring import Thresholds
from tests.deploys import metrics
from tests.deploys.golden import assert_golden
from tests.deploys.monitoring import GRAFANA, monitored
from tests.deploys.prometheus.tools import program

GOLDEN = Path(__file__).parent / "golden"
BOARDS = boards(Thresholds())


def settings(**changes: Any) -> GrafanaSettings:
    found = settings_for(monitored(monitoring={"grafana": {**GRAFANA, **changes}}), "watch")
    assert found
    return found


def test_provisioned_files_equal_golden_files() -> None:
    assert_golden(GOLDEN / "datasources.yml", datasources(settings()))
    assert_golden(GOLDEN / "provider.yml", provider())
    assert_golden(GOLDEN / "grafana.ini", rendered("grafana/grafana.ini", values(settings())))
    opened = settings(open_to=["10.0.0.0/8"], port=3443)
    assert_golden(GOLDEN / "open.ini", rendered("grafana/grafana.ini", values(opened)))


def test_grafana_is_reachable_only_from_declared_networks() -> None:
    assert openings_for(monitored(), "watch") == ()
    opened = monitored(monitoring={"grafana": {**GRAFANA, "open_to": ["10.0.0.0/8"]}})
    (opening,) = openings_for(opened, "watch")
    assert (opening.port, opening.sources) == (3000, ("10.0.0.0/8",))
    assert settings_for(opened, "bot1") is None
    assert settings_for(monitored(monitoring={}), "watch") is None


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.uid)
def test_dashboards_are_valid_for_the_grafana_sdk(board: Board) -> None:
    register_default_plugins()
    text = dashboard_json(board)
    assert text == dashboard_json(board)
    read = Dashboard.from_json(json.loads(text))
    assert (read.uid, read.editable) == (board.uid, False)
    panels = [panel for panel in json.loads(text)["panels"] if panel["type"] == "timeseries"]
    assert len(panels) == sum(len(row.panels) for row in board.rows)
    assert {panel["datasource"]["uid"] for panel in panels} == {"clawd-prometheus"}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len(set(places)) == len(places), "panels lie on each other"


def test_promtool_accepts_every_dashboard_expression(tmp_path: Path) -> None:
    expressions = [
        query.expr.replace("$__rate_interval", "1m")
        for board in BOARDS
        for row in board.rows
        for panel in row.panels
        for query in panel.queries
    ]
    listed = [{"record": f"shown:{number}", "expr": expr} for number, expr in enumerate(expressions)]
    (tmp_path / "rules.yml").write_text(yaml_text({"groups": [{"name": "shown", "rules": listed}]}))
    words = [program("promtool"), "check", "rules", str(tmp_path / "rules.yml")]
    checked = subprocess.run(words, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    assert f"{len(expressions)} rules found" in checked.stdout


def test_dashboards_use_only_exported_metrics(tmp_path: Path) -> None:
    text = "".join(dashboard_json(board) for board in BOARDS)
    used = {word for word in _words(text) if word.startswith("clawd_")}
    assert used
    assert not used - metrics.of_ours(tmp_path)


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())
