"""Settings of a disabled feature are refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rule_findings import InventoryFinding
from inventory.rules.unused import RULES, SWITCHES
from tests.deploys.inventories import inventory

NETWORK = ["10.0.0.0/8"]
DNS = {"dns": {"provider": "alidns"}}
DATABASE = {"password": "p", "url": "postgresql://l@db.example.com:5432/d"}
GRAFANA = {"admin_password": "p" * 12, "package": "grafana.deb"}


def found(**changes: Any) -> list[InventoryFinding]:
    return [finding for rule in RULES for finding in rule(inventory(**changes))]


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    (
        {
            "firewall": {"enabled": False, "management": NETWORK},
            "hardening": {"fail2ban": {"enabled": False}},
        },
        "firewall.management",
        "`firewall.enabled` is",
    ),
    (
        {
            "firewall": {"enabled": False, "management": NETWORK},
            "hardening": {"enabled": False},
        },
        "firewall.management",
        "`firewall.enabled` is",
    ),
    (
        {"firewall": {"enabled": False, "open": [{"port": 9}]}},
        "firewall.open",
        "`firewall.enabled` is false",
    ),
    (
        {"firewall": {"enabled": False}, "nginx": {"connections": 9}},
        "nginx.connections",
        "`firewall.enabled` is false",
    ),
    (
        {"hardening": {"enabled": False, "banner": "x"}},
        "hardening.banner",
        "`hardening.enabled` is false",
    ),
    (
        {"hardening": {"enabled": False, "sysctl": {"vm.swappiness": 1}}},
        "hardening.sysctl",
        "`hardening.enabled` is false",
    ),
    (
        {"hardening": {"enabled": False, "fail2ban": {"tries": 9}}},
        "hardening.fail2ban",
        "`hardening.enabled` is false",
    ),
    (
        {"hardening": {"fail2ban": {"enabled": False, "never": NETWORK}}},
        "hardening.fail2ban.never",
        "`hardening.fail2ban.enabled` is false",
    ),
    (
        {"hardening": {"updates": {"enabled": False, "reboot": "04:30"}}},
        "hardening.updates.reboot",
        "`hardening.updates.enabled` is false",
    ),
    ({"docker": {"enabled": False, "log_files": 9}}, "docker.log_files", "`docker.enabled` is false"),
    ({"docker": {"key": "k.asc"}}, "docker.key", "`docker.source: distribution`"),
    ({"docker": {"no_proxy": ["a.internal"]}}, "docker.no_proxy", "there is no `docker.proxy`"),
    ({"tls": {"acme": {"email": "a@b.example"}}}, "tls.acme", "`tls.mode` is not acme"),
    ({"tls": {"mode": "acme", "acme": DNS}}, "tls.acme.dns", "`tls.acme.challenge` is not dns-01"),
    (
        {"tls": {"provided": {"certificate": "x", "key": "y"}}},
        "tls.provided",
        "`tls.mode` is not provided",
    ),
    ({"database": {**DATABASE, "memory": "1G"}}, "database.memory", "`database.url` names"),
    ({"database": {**DATABASE, "backups": {"keep": 9}}}, "database.backups", "`database.url` names"),
    (
        {"logs": {"packages": {"folder": "debs", "proxy": "http://p:1"}}},
        "logs.packages.proxy",
        "the packages are those of",
    ),
    (
        {"monitoring": {"grafana": {**GRAFANA, "key": "k.asc"}}},
        "monitoring.grafana.key",
        "is installed instead",
    ),
]


@pytest.mark.parametrize(("changes", "path", "why"), REFUSED)
def test_setting_of_a_disabled_feature_is_refused_with_the_reason(
    changes: dict[str, Any], path: str, why: str
) -> None:
    (finding,) = found(**changes)
    assert finding.at == (tuple(path.split(".")),)
    assert finding.problem.startswith(f"`{path}` has no effect: ")
    assert why in finding.problem
    assert finding.advice.startswith("remove it, or ")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"firewall": {"enabled": False}},
        {"firewall": {"enabled": False, "management": NETWORK}},
        {"firewall": {"enabled": False, "management": [], "open": []}},
        {"firewall": {"management": NETWORK}, "nginx": {"connections": 9}},
        {"hardening": {"enabled": False, "updates": {"enabled": True}}},
        {"hardening": {"updates": {"enabled": False, "reboot": "never"}}},
        {"docker": {"enabled": False}},
        {"docker": {"source": "docker", "key": "k.asc", "repository": "https://m.example"}},
        {"docker": {"proxy": "http://p:1", "no_proxy": ["a.internal"]}},
        {"tls": {"mode": "acme", "acme": {"email": "a@b.example", "challenge": "dns-01", **DNS}}},
        {"tls": {"mode": "provided", "provided": {"certificate": "x", "key": "y"}}},
        {"database": {"password": "p", "memory": "1G", "backups": {"keep": 9}}},
        {"monitoring": {"grafana": {"admin_password": "p" * 12, "key": "k.asc"}}},
    ],
)
def test_setting_with_an_effect_is_accepted(changes: dict[str, Any]) -> None:
    assert found(**changes) == []


def enabled(model: type[BaseModel], path: KeyPath = ()) -> list[KeyPath]:
    below = [
        (name, kind)
        for name, info in model.model_fields.items()
        for kind in (info.annotation,)
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    ]
    own: list[KeyPath] = [(*path, "enabled")] if "enabled" in model.model_fields else []
    return own + [at for name, kind in below for at in enabled(kind, (*path, name))]


def test_every_enabled_field_is_in_the_table_of_switches() -> None:
    switches = enabled(Inventory)
    assert len(switches) == 5
    assert set(switches) <= {switch.at for switch in SWITCHES}


def test_keys_of_every_switch_exist_in_its_section() -> None:
    for switch in SWITCHES:
        section: Any = inventory(
            database=DATABASE, monitoring={"grafana": GRAFANA}, logs={"packages": {"folder": "debs"}}
        )
        for key in switch.section:
            section = getattr(section, str(key))
        assert set(switch.keys) <= set(type(section).model_fields), switch.at
