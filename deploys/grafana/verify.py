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
from deploys.ops.checks import ends_soon, runs_as_started


def test_runs_with_what_is_on_the_disk(host: Any, settings: GrafanaSettings) -> None:
    assert runs_as_started(host, f"{UNIT}.service", watch=reads(settings))
    assert host.service(UNIT).is_enabled


def test_is_healthy(host: Any, settings: GrafanaSettings) -> None:
    assert host.run(healthy(settings.url)).rc == 0


def test_certificate_does_not_end_soon(host: Any, settings: GrafanaSettings) -> None:
    if settings.open_to:
        assert not (told := ends_soon(host, CERTIFICATE)), told


def test_files_are_as_declared(host: Any, settings: GrafanaSettings) -> None:
    assert host.file(DATASOURCES).content_string == datasources(settings)
    assert host.file(PROVIDER).content_string == provider()
    for board in boards(settings.thresholds):
        assert host.file(f"{DASHBOARDS}/{board.uid}.json").content_string == dashboard_json(board), board.uid


def test_password_is_private_and_taken(host: Any, settings: GrafanaSettings) -> None:
    file = host.file(PASSWORD)
    assert (file.user, file.group, file.mode) == ("root", "grafana", 0o640)
    assert json.loads(api(host, settings, "/api/user"))["login"] == "admin"


def test_sources_and_dashboards_are_there(host: Any, settings: GrafanaSettings) -> None:
    known = {source["uid"] for source in json.loads(api(host, settings, "/api/datasources"))}
    assert {PROMETHEUS_UID, ALERTMANAGER_UID} <= known
    found = {board["uid"] for board in json.loads(api(host, settings, "/api/search?type=dash-db"))}
    assert {board.uid for board in boards(settings.thresholds)} <= found


def test_listens_where_it_should(host: Any, settings: GrafanaSettings) -> None:
    listening = host.check_output("ss -Hltn sport = :%s", str(settings.port)).splitlines()
    places = {line.split()[3].rpartition(":")[0] for line in listening}
    assert places, "Grafana does not listen"
    assert (places == {"127.0.0.1"}) == (not settings.open_to), places


def api(host: Any, settings: GrafanaSettings, path: str) -> str:
    """What Grafana answers its admin."""
    answer: str = host.check_output("python3 -c %s %s %s", ASK, settings.url + path, PASSWORD)
    assert answer != "refused", "Grafana does not take the declared password"
    return answer
