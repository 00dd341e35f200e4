"""Checks of Grafana, read-only. Its password does not leave the host."""

from __future__ import annotations

import json
from typing import Any

from deploys.grafana.config import (
    ALERTMANAGER_UID,
    CERTIFICATE,
    DASHBOARDS,
    DATASOURCES,
    PASSWORD,
    PROMETHEUS_UID,
    PROVIDER,
    datasources,
    provider,
)
from deploys.grafana.dashboards import dashboard_json
from deploys.grafana.deploy import ASK, UNIT, healthy, reads
from deploys.grafana.panels import boards
from deploys.grafana.settings import GrafanaSettings
from deploys.ops.checks import (
    expect,
    expect_certificate,
    expect_content,
    expect_owner,
    expect_started_with,
    listening,
    said,
)


def test_runs_with_what_is_on_the_disk(host: Any, settings: GrafanaSettings) -> None:
    expect_started_with(host, f"{UNIT}.service", watch=reads(settings))


def test_is_healthy(host: Any, settings: GrafanaSettings) -> None:
    result = host.run(healthy(settings.url))
    log = f"read `journalctl -u {UNIT}` on the host"
    expect(result.rc == 0, f"Grafana does not answer at {settings.url}: {said(result)}", log)


def test_certificate_does_not_end_soon(host: Any, settings: GrafanaSettings) -> None:
    if settings.open_to:
        expect_certificate(host, CERTIFICATE)


def test_files_are_as_declared(host: Any, settings: GrafanaSettings) -> None:
    expect_content(host, DATASOURCES, datasources(settings))
    expect_content(host, PROVIDER, provider())
    for board in boards(settings.thresholds):
        expect_content(host, f"{DASHBOARDS}/{board.uid}.json", dashboard_json(board))


def test_password_is_private_and_taken(host: Any, settings: GrafanaSettings) -> None:
    expect_owner(host, PASSWORD, "root", 0o640, group="grafana")
    login = json.loads(api(host, settings, "/api/user"))["login"]
    expect(login == "admin", f"Grafana takes the password for {login}, and should for admin")


def test_sources_and_dashboards_are_there(host: Any, settings: GrafanaSettings) -> None:
    known = {source["uid"] for source in json.loads(api(host, settings, "/api/datasources"))}
    lacking = {PROMETHEUS_UID, ALERTMANAGER_UID} - known
    expect(not lacking, f"Grafana lacks data sources: {', '.join(sorted(lacking))}")
    found = {board["uid"] for board in json.loads(api(host, settings, "/api/search?type=dash-db"))}
    lacking = {board.uid for board in boards(settings.thresholds)} - found
    expect(not lacking, f"Grafana lacks dashboards: {', '.join(sorted(lacking))}")


def test_listens_where_it_should(host: Any, settings: GrafanaSettings) -> None:
    places = listening(host, settings.port)
    expect(places, f"Grafana does not listen on port {settings.port}")
    where = ", ".join(sorted(places))
    expect((places == {"127.0.0.1"}) == (not settings.open_to), f"Grafana listens on {where}")


def api(host: Any, settings: GrafanaSettings, path: str) -> str:
    """Return Grafana's answer to its admin."""
    answer: str = host.check_output("python3 -c %s %s %s", ASK, settings.url + path, PASSWORD)
    expect(answer != "refused", "Grafana does not take the declared password")
    return answer
