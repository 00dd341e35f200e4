"""What the inventory accepts, the two programs accept; what they would refuse, it refuses before."""

from __future__ import annotations

import asyncio
from itertools import chain
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from pydantic import ValidationError

from clawd_runtime.bot.channels.base import ChannelContext
from clawd_runtime.bot.channels.registry import channel_class
from clawd_runtime.bot.settings import SHORTEST_PROMPT_TOKENS, load_settings
from clawd_runtime.engine.settings import read_settings
from deploys.runtime.config import bot_config, engine_config
from deploys.runtime.settings import RuntimeSettings, settings_for
from inventory import rules
from inventory.model import Inventory
from inventory.model_files import context_budget
from tests.deploys.inventories import CHANNELS, LOCAL, REMOTE, inventory

OWN_SERVER = "https://tg.example.com"


def models(default: dict[str, Any], fallback: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"models": {"default": {**LOCAL, **default}, "fallback": fallback}}


def channels(channel: str, **fields: Any) -> dict[str, Any]:
    return {"channels": {**CHANNELS, channel: {**CHANNELS[channel], **fields}}}


ACCEPTED: dict[str, dict[str, Any]] = {
    "least context": {**models({"context_size": 656}), "bot": {"max_reply_tokens": 16}},
    "least context for a reply": models({"context_size": 1152}),
    "least context elsewhere": models({}, {**REMOTE, "context_size": 1163}),
    "most context": models({"context_size": 1_048_576}),
    "most threads": models({"threads": 1024}),
    "least and most at once": models({"threads": 1, "parallel": 64}),
    "one at once": models({"parallel": 1}),
    "temperatures": models({"temperature": 0}, {**REMOTE, "temperature": 2}),
    "deadlines": models(
        {"first_token_seconds": 1, "token_gap_seconds": 1}, {**REMOTE, "first_token_seconds": 1800}
    ),
    "shortest reply": {"bot": {"max_reply_tokens": 16, "rate_limit_per_minute": 1}},
    "ports": {"bot": {"port": 65535}, "nginx": {"https_port": 8443}},
    "short model": models({}, {**REMOTE, "model": "m"}),
    "short app_id": channels("feishu", app_id="cli_1"),
    "token of an own server": channels("telegram", token="1:a", api_base=OWN_SERVER),
    "longest secret token": channels("telegram", secret_token="0123456789abcdef" * 16),
    "shortest console secret": channels("console", jwt_secret="0123456789abcdef" * 2),
}
REFUSED: dict[str, dict[str, Any]] = {
    "context below the least": {**models({"context_size": 255}), "bot": {"max_reply_tokens": 16}},
    "no room for a question": models({"context_size": 1151}),
    "no room for a question elsewhere": models({}, {**REMOTE, "context_size": 1162}),
    "too much context": models({"context_size": 1_048_577}),
    "too many threads": models({"threads": 1025}),
    "too many at once": models({"parallel": 65}),
    "no time for a first token": models({"first_token_seconds": 0}),
    "too much time between tokens": models({}, {**REMOTE, "token_gap_seconds": 1801}),
    "short reply": {"bot": {"max_reply_tokens": 15}},
    "no model": models({}, {**REMOTE, "model": ""}),
    "app_id of another form": channels("feishu", app_id="app_1"),
    "empty app_id": channels("feishu", app_id="cli_"),
    "token of another form": channels("telegram", token="a:1", api_base=OWN_SERVER),
    "token without end": channels("telegram", token="1:", api_base=OWN_SERVER),
    "no secret token": channels("telegram", secret_token=None),
    "long secret token": channels("telegram", secret_token="0123456789abcdef" * 16 + "0"),
    "short console secret": channels("console", jwt_secret="0123456789abcdef0123456789abcde"),
}


@pytest.mark.parametrize("changes", ACCEPTED.values(), ids=ACCEPTED)
def test_settings_accepted_by_the_inventory_start_bot_and_engine(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    declared = inventory(**changes)
    assert problems(declared) == []
    settings = settings_for(declared, "bot1")
    assert settings is not None
    assert settings.engine is not None
    engine, bot = tmp_path / "engine.json", tmp_path / "bot.json"
    engine.write_text(engine_config(settings.engine, "/var/lib/clawd/models/m.gguf"), encoding="utf-8")
    bot.write_text(bot_config(settings), encoding="utf-8")
    assert read_settings(engine).parallel == settings.engine.parallel
    asyncio.run(start_channels(settings, bot))


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_settings_that_would_not_start_are_refused_by_the_inventory(changes: dict[str, Any]) -> None:
    try:
        found = problems(inventory(**changes))
    except ValidationError as error:
        found = [mistake["msg"] for mistake in error.errors()]
    assert len(found) == 1


def test_context_budget_of_the_inventory_covers_the_shortest_prompt_of_the_bot() -> None:
    assert context_budget.QUESTION_TOKENS + context_budget.TEMPLATE_TOKENS >= SHORTEST_PROMPT_TOKENS


def problems(declared: Inventory) -> list[str]:
    checks = (*rules.RULES, *rules.secrets.RULES)
    return [finding.problem for finding in chain.from_iterable(rule(declared) for rule in checks)]


async def start_channels(settings: RuntimeSettings, file: Path) -> None:
    """Makes every channel of the bot as it does when it starts; its complaints are raised."""
    read = load_settings(file)
    secrets = {name: value.get_secret_value() for name, value in settings.credentials.items()}
    async with httpx.AsyncClient() as http:
        context = ChannelContext(cast(Any, None), http, cast(Any, secrets), read.public_url)
        for name, channel in read.channels.items():
            channel_class(name)(channel, context)
