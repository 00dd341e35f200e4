"""Dashboards in Grafana's own form, built with its types. Pure."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.common import GraphThresholdsStyleConfig
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.builders.timeseries import Panel as TimeSeries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)

from deploys.grafana.config import PROMETHEUS_UID
from deploys.grafana.panels import Board, Panel, Query

WIDTH, HEIGHT = 8, 8
"""Size of a panel: in Grafana's 24 columns, and in its rows of 30 pixels."""
SOURCE = DataSourceRef("prometheus", PROMETHEUS_UID)


def dashboard_json(board: Board) -> str:
    """Return the file that Grafana reads; the same for the same `board`."""
    made = build.Dashboard(board.title).uid(board.uid).tags(["clawd"]).readonly()
    made = (
        made.refresh("30s").time("now-6h", "now").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    )
    for row in board.rows:
        made = made.with_row(build.Row(row.title))
        for panel in row.panels:
            made = made.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(made.build()) + "\n"


def _panel(panel: Panel) -> TimeSeries:
    made = (
        TimeSeries().title(panel.title).unit(panel.unit).datasource(SOURCE).min(0).span(WIDTH).height(HEIGHT)
    )
    for number, query in enumerate(panel.queries):
        made = made.with_target(_query(query, chr(ord("A") + number)))
    if panel.limit is None:
        return made
    steps = [Threshold(None, "transparent"), Threshold(float(panel.limit), "red")]
    drawn = GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
    limits = build.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)
    return made.thresholds(limits).thresholds_style(drawn)


def _query(query: Query, ref: str) -> Dataquery:
    return Dataquery().ref_id(ref).expr(query.expr).legend_format(query.legend).datasource(SOURCE)
