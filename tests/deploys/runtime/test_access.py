"""Rules for access and the rate limit, and what reaches the bot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clawd_runtime.bot.access.file import AccessTable
from deploys.runtime.config import access_table
from deploys.runtime.settings import settings_for
from inventory.rule_findings import InventoryFinding
from inventory.rules import services
from tests.deploys.inventories import inventory


def findings(**changes: Any) -> list[InventoryFinding]:
    declared = inventory(**changes)
    return [*services.access(declared), *services.bot(declared)]


OWNER = {"users": {"telegram:1": "owner"}}


@pytest.mark.parametrize(
    ("access", "paths"),
    [
        ({}, [("channels", "telegram"), ("channels", "feishu")]),
        (OWNER, []),
        ({"telegram": "pairing", "feishu": "tenant"}, []),
        ({"telegram": "open", "feishu": "open"}, [("access", "telegram"), ("access", "feishu")]),
        ({"telegram": "closed", "feishu": "open"}, [("access", "feishu")]),
    ],
)
def test_undeclared_and_open_access_are_warnings(access: dict[str, Any], paths: list[Any]) -> None:
    found = findings(access=access)
    assert [finding.at[0] for finding in found] == paths
    assert all(finding.is_warning for finding in found)


@pytest.mark.parametrize(
    ("bot", "refused"),
    [
        ({"rate_limit_per_minute": 30}, False),
        ({"rate_limit_per_minute": 31}, True),
        ({"rate_limit_per_minute": 31, "rate_limit_reason": "load test"}, False),
    ],
)
def test_rate_above_ceiling_needs_a_reason(bot: dict[str, Any], refused: bool) -> None:
    found = findings(access=OWNER, bot=bot)
    assert [finding.at[0] for finding in found] == [("bot", "rate_limit_per_minute")] * refused
    assert not any(finding.is_warning for finding in found)


def test_quota_of_unknown_model_is_refused() -> None:
    quotas = {"models": {"other": {"tokens_per_day": 1}, "default": {"tokens_per_day": 1}}}
    assert [finding.at[0] for finding in findings(access=OWNER | {"quotas": quotas})] == [
        ("access", "quotas", "models", "other")
    ]


def test_bot_reads_the_declared_access() -> None:
    quotas = {"user": {"tokens_per_day": 5, "warn_percent": 50}}
    declared = inventory(
        access={
            "feishu": "tenant",
            "users": {"telegram:1": "owner"},
            "groups": ["telegram:-100"],
            "commands": {"new": "admin"},
            "quotas": quotas,
        },
        base={"time_zone": "Asia/Shanghai"},
    )
    settings = settings_for(declared, "bot1")
    assert settings is not None
    table = AccessTable.model_validate_json(access_table(settings))
    assert table == AccessTable.model_validate(
        {
            "channels": {"telegram": "pairing", "feishu": "tenant", "console": "open"},
            "users": {"telegram:1": "owner"},
            "groups": ["telegram:-100"],
            "commands": {"new": "admin"},
            "quotas": quotas,
            "time_zone": "Asia/Shanghai",
        }
    )
    assert json.loads(access_table(settings))["channels"]["telegram"] == "pairing"
