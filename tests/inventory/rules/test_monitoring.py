from __future__ import annotations

from typing import Any

import pytest

from inventory.reading.source import KeyPath
from inventory.rules.monitoring import RULES
from tests.deploys.inventories import inventory

HOSTS = {"bot1": ["runtime", "nginx"], "watch": ["monitoring"]}
ALERTS: dict[str, Any] = {"token": "0123456789abcdef", "telegram_chat": -100}
GRAFANA: dict[str, Any] = {"admin_password": "12345678", "key": "gpg.key"}


def found(hosts: dict[str, list[str]] = HOSTS, **changes: Any) -> dict[KeyPath, str]:
    declared = inventory(hosts, **changes)
    return {finding.at[0]: finding.problem for rule in RULES for finding in rule(declared)}


@pytest.mark.parametrize(
    "monitoring",
    [
        {},
        {"alerts": ALERTS, "grafana": GRAFANA},
        {"alerts": {**ALERTS, "feishu_chat": "oc_1", "feishu_webhook": "https://x/y"}},
        {"grafana": {"admin_password": "12345678", "package": "grafana.deb"}},
        {"scrape_interval": 2, "window": 10, "sustained": 0},
    ],
    ids=["defaults", "alerts and dashboards", "all receivers", "a package file", "hurried"],
)
def test_valid_monitoring_settings_are_accepted(monitoring: dict[str, Any]) -> None:
    assert found(monitoring=monitoring) == {}


def test_monitoring_settings_are_optional_without_the_role() -> None:
    assert found({"bot1": ["runtime", "nginx"]}) == {}


@pytest.mark.parametrize(
    ("changes", "at", "problem"),
    [
        ({"monitoring": {"window": 30}}, ("monitoring", "window"), "too few samples"),
        ({"monitoring": {"retention_size": "100M"}}, ("monitoring", "retention_size"), "too little"),
        ({"monitoring": {"alerts": {"token": "x" * 16}}}, ("monitoring", "alerts"), "no recipient"),
        (
            {"monitoring": {"alerts": ALERTS}, "channels": {}},
            ("monitoring", "alerts", "telegram_chat"),
            "no `channels.telegram`",
        ),
        (
            {"monitoring": {"alerts": {**ALERTS, "feishu_webhook_secret": "s"}}},
            ("monitoring", "alerts", "feishu_webhook_secret"),
            "`feishu_webhook` is missing",
        ),
        (
            {"monitoring": {"grafana": {"admin_password": "12345678"}}},
            ("monitoring", "grafana"),
            "cannot be verified without its key",
        ),
    ],
    ids=lambda value: "" if not isinstance(value, str) else value.replace(" ", "-"),
)
def test_invalid_monitoring_settings_are_refused_with_their_place(
    changes: dict[str, Any], at: KeyPath, problem: str
) -> None:
    assert problem in found(**changes)[at]


def test_second_monitoring_host_is_refused() -> None:
    problems = found({**HOSTS, "watch2": ["monitoring"]})
    assert problems["hosts", "watch2", "roles"] == "`watch2` and `watch` both have the role monitoring"


def test_monitoring_settings_without_the_role_are_refused() -> None:
    problems = found({"bot1": ["runtime", "nginx"]}, monitoring={"alerts": ALERTS})
    assert "no host has the role monitoring" in problems["monitoring",]
