from __future__ import annotations

from typing import Any

import pytest

from inventory.model import Inventory
from inventory.rules.database import RULES
from inventory.rules.secrets import secrets

MODEL = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
PASSWORD = "sixteen-or-longer"
ONE = {"bot1": ["runtime", "nginx"]}
TEAM = {"web1": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"], "db1": ["database"]}
WITHOUT = {"web1": ["nginx"], "bot1": ["runtime"], "bot2": ["runtime"]}


def declared(hosts: dict[str, list[str]], database: dict[str, Any] | None, **changes: Any) -> Inventory:
    addresses = {
        name: {"address": f"10.0.0.{n}", "roles": roles} for n, (name, roles) in enumerate(hosts.items())
    }
    section = {} if database is None else {"database": {"password": PASSWORD, **database}}
    return Inventory.model_validate({"hosts": addresses, "models": MODEL, **section, **changes})


def problems(inventory: Inventory) -> list[str]:
    return [finding.problem for rule in RULES for finding in rule(inventory)]


@pytest.mark.parametrize(
    ("hosts", "database", "part"),
    [
        (TEAM, None, "no section `database`"),
        (WITHOUT, {}, "no host has the role database"),
        ({**TEAM, "db2": ["database"]}, {}, "`db1` and `db2` both have the role database"),
        (TEAM, {"url": "postgresql://clawd@db.example.com/clawd"}, "but `db1` has the role database"),
        (WITHOUT, None, "nginx on `web1` distributes requests to bot1, bot2, which share no database"),
        ({**ONE, "bot2": ["runtime"]}, None, "distributes requests to bot1, bot2"),
        ({"bot2": ["runtime"], **ONE}, None, "distributes requests to bot2, bot1"),
        (
            TEAM,
            {"memory": "100M", "max_connections": 20},
            "half of 100M is too little memory for 20 connections",
        ),
        (
            TEAM,
            {"memory": "512M", "max_connections": 52},
            "half of 512M is too little memory for 52 connections",
        ),
    ],
)
def test_invalid_database_settings_are_refused(
    hosts: dict[str, list[str]], database: dict[str, Any] | None, part: str
) -> None:
    found = problems(declared(hosts, database))
    assert any(part in problem for problem in found), found


@pytest.mark.parametrize(
    ("hosts", "database"),
    [
        (ONE, None),
        ({"bot1": ["runtime", "nginx"], "bot2": ["runtime", "nginx"]}, None),
        ({"bot1": ["runtime", "nginx", "database"]}, {}),
        (TEAM, {}),
        (TEAM, {"memory": "512M", "max_connections": 51}),
        (WITHOUT, {"url": "postgresql://clawd@db.example.com:6432/clawd?sslmode=require"}),
    ],
)
def test_valid_database_settings_are_accepted(
    hosts: dict[str, list[str]], database: dict[str, Any] | None
) -> None:
    assert problems(declared(hosts, database)) == []


@pytest.mark.parametrize("password", ["hunter2", "long enough but with spaces", "sechzehn-und-länger"])
def test_invalid_database_passwords_are_refused_and_not_shown(password: str) -> None:
    (finding,) = secrets(declared(TEAM, {"password": password}))
    assert password not in finding.problem + finding.advice
    assert list(secrets(declared(TEAM, {}))) == []
