"""Grafana's settings and provisioning files. Pure."""

from __future__ import annotations

from deploys.grafana.settings import GrafanaSettings
from deploys.prometheus.rules import yaml_text
from deploys.topology.certificates import CERTIFICATE_FOLDERS

ETC = "/etc/grafana"
GENERATED = ("grafana.ini", "ldap.toml", "provisioning/*/sample.yaml")
"""Files that the package generates in it."""
CONFIG = f"{ETC}/grafana.ini"
PROVISIONING = "/etc/grafana/provisioning"
DATASOURCES = f"{PROVISIONING}/datasources/clawd.yml"
PROVIDER = f"{PROVISIONING}/dashboards/clawd.yml"
DASHBOARDS = "/etc/grafana/clawd-dashboards"
PASSWORD = "/etc/grafana/clawd-admin-password"  # noqa: S105  a path
CERTIFICATE = CERTIFICATE_FOLDERS["grafana"]
PROMETHEUS_UID, ALERTMANAGER_UID = "clawd-prometheus", "clawd-alertmanager"
"""Fixed: dashboards refer to their data sources by these."""


def datasources(settings: GrafanaSettings) -> str:
    """Return the data sources of Grafana. `$` would begin a variable here; none is in it."""
    prometheus = {
        "name": "Prometheus",
        "type": "prometheus",
        "uid": PROMETHEUS_UID,
        "access": "proxy",
        "url": settings.prometheus,
        "isDefault": True,
        "editable": False,
        "jsonData": {"httpMethod": "POST", "timeInterval": f"{settings.scrape_interval}s"},
    }
    alertmanager = {
        "name": "Alertmanager",
        "type": "alertmanager",
        "uid": ALERTMANAGER_UID,
        "access": "proxy",
        "url": settings.alertmanager,
        "editable": False,
        "jsonData": {"implementation": "prometheus"},
    }
    return yaml_text({"apiVersion": 1, "prune": True, "datasources": [prometheus, alertmanager]})


def provider() -> str:
    """Return the file that names the folder of the dashboards."""
    shown = {
        "name": "clawd",
        "folder": "Clawd",
        "type": "file",
        "disableDeletion": True,
        "allowUiUpdates": False,
        "updateIntervalSeconds": 60,
        "options": {"path": DASHBOARDS},
    }
    return yaml_text({"apiVersion": 1, "providers": [shown]})
