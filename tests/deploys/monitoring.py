"""Inventories with monitoring, that the tests of its components start from."""

from __future__ import annotations

from typing import Any

from inventory.model import Inventory
from tests.deploys.inventories import inventory

HOSTS = {"bot1": ["runtime", "nginx"], "watch": ["monitoring"]}
ALERTS: dict[str, Any] = {"token": "0123456789abcdef-of-alerts", "telegram_chat": -100, "feishu_chat": "oc_1"}
GRAFANA: dict[str, Any] = {"admin_password": "a-password-of-grafana", "key": "gpg.key"}


def monitored(hosts: dict[str, list[str]] = HOSTS, **changes: Any) -> Inventory:
    """A bot that another host watches."""
    return inventory(hosts, **{"monitoring": {"alerts": ALERTS, "grafana": GRAFANA}, **changes})
