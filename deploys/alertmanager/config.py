"""alertmanager.yml and its command line. Pure."""

from __future__ import annotations

from typing import Any

from deploys.alertmanager.settings import AlertmanagerSettings
from deploys.exporters.exporter import CERTIFICATE_FILES
from deploys.prometheus.rules import yaml_text
from deploys.topology.monitoring import ALERTMANAGER_PORT

CONFIG = "/etc/prometheus/alertmanager.yml"
TOKEN = "/etc/prometheus/clawd-alerts-token"  # noqa: S105  a path
DATA = "/var/lib/clawd-alertmanager"
REPEAT = "4h"
"""An alert that still fires is posted again; the bot recognizes it and announces it once."""


def arguments() -> tuple[str, ...]:
    """Return its arguments. It listens on loopback, and for no other Alertmanager."""
    return (
        f"--config.file={CONFIG}",
        f"--storage.path={DATA}",
        f"--web.listen-address=127.0.0.1:{ALERTMANAGER_PORT}",
        "--cluster.listen-address=",
    )


def config(settings: AlertmanagerSettings) -> str:
    """Return alertmanager.yml."""
    return yaml_text(
        {
            "route": {
                "receiver": "bot",
                # An alert that fires on several hosts at once is one message.
                "group_by": ["alertname"],
                "group_wait": f"{settings.group_wait}s",
                "group_interval": f"{settings.group_interval}s",
                "repeat_interval": REPEAT,
            },
            # Other alerts of a host that is down are not worth a message.
            "inhibit_rules": [
                {
                    "source_matchers": ['alertname="HostDown"'],
                    "target_matchers": ['alertname!="HostDown"'],
                    "equal": ["host"],
                }
            ],
            "receivers": [_receiver(settings)],
        }
    )


def _receiver(settings: AlertmanagerSettings) -> dict[str, Any]:
    if not settings.bots:
        return {"name": "bot"}
    return {
        "name": "bot",
        "webhook_configs": [
            {"url": bot, "send_resolved": True, "http_config": _http_config(bot)} for bot in settings.bots
        ],
    }


def _http_config(url: str) -> dict[str, Any]:
    found: dict[str, Any] = {"authorization": {"type": "Bearer", "credentials_file": TOKEN}}
    if url.startswith("https:"):
        chain, key, trusted = CERTIFICATE_FILES
        found["tls_config"] = {"ca_file": trusted, "cert_file": chain, "key_file": key}
    return found
