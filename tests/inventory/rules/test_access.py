from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from inventory.model import Inventory
from inventory.rules.services import access
from inventory.sections.access import Access

MODEL = {"default": {"engine": "openai-compatible", "endpoint": "https://models.example.com/v1"}}
PUBLIC = {"token": "1:a", "secret_token": "b" * 32}


def warnings(declared: dict[str, Any] | None, **telegram: Any) -> list[str]:
    inventory = Inventory.model_validate(
        {
            "hosts": {"bot1": {"address": "10.0.0.1"}},
            "models": MODEL,
            "channels": {"telegram": PUBLIC | telegram},
            **({} if declared is None else {"access": declared}),
        }
    )
    findings = list(access(inventory))
    assert all(finding.is_warning for finding in findings)
    return [finding.problem for finding in findings]


def test_bot_that_everyone_may_use_is_warned_about() -> None:
    assert warnings({"telegram": "open"}) == ["everyone on Telegram may use the bot"]


def test_bot_on_a_stand_in_at_a_private_address_may_be_open_without_a_warning() -> None:
    assert warnings({"telegram": "open"}, api_base="http://10.213.77.1:8081") == []


@pytest.mark.parametrize("api_base", ["https://bots.example.com", "http://8.8.8.8:8081"])
def test_bot_on_another_public_server_is_warned_about(api_base: str) -> None:
    assert warnings({"telegram": "open"}, api_base=api_base) == ["everyone on Telegram may use the bot"]


def test_undeclared_access_is_warned_about_because_no_one_can_confirm_a_code() -> None:
    (problem,) = warnings(None)
    assert "`access` is not declared: on Telegram, new people get a pairing code" in problem


def test_declared_pairing_has_no_warning() -> None:
    assert warnings({"telegram": "pairing"}) == []


def test_stop_cannot_need_a_role() -> None:
    with pytest.raises(ValidationError, match="it only reaches messages of its sender"):
        Access(commands={"stop": "admin"})
