"""The changes of an inventory that give models shares, and what bots show of them."""

from __future__ import annotations

from typing import Any

import pytest

from clawd_runtime.bot.models.routes import RouteTable
from inventory.editing import changed
from inventory.errors import ClawdError
from inventory.load import load
from inventory.model import Inventory
from provision.model_routes import (
    STEPS,
    UsedRoutes,
    next_share,
    refuse_stopped,
    routes_of,
    with_share,
    without,
)

TEXT = """hosts: {bot1: {address: 192.0.2.1}}
models:
  default: {engine: openai-compatible, endpoint: "https://a.example.com/v1"}
  # To be tried.
  next: {engine: openai-compatible, endpoint: "https://b.example.com/v1"}
"""


def after(tmp_path: Any, text: str) -> Inventory:
    file = tmp_path / "prod.yml"
    file.write_text(text)
    return load(file).inventory


def test_shares_grow_in_steps_and_each_is_a_new_version(tmp_path: Any) -> None:
    text, seen = TEXT, []
    for _ in STEPS:
        inventory = after(tmp_path, text)
        text = changed(text, with_share(inventory, "next", next_share(inventory, "next")))
        routes = after(tmp_path, text).routes
        seen.append((routes.version, routes.shares))
    assert seen == [(2, {"next": 5}), (3, {"next": 25}), (4, {"next": 100})]
    assert "  # To be tried.\n" in text
    with pytest.raises(ClawdError, match="answers 100 % of the conversations already"):
        next_share(after(tmp_path, text), "next")


def test_abort_takes_the_share_away_in_a_new_version(tmp_path: Any) -> None:
    text = changed(TEXT, with_share(after(tmp_path, TEXT), "next", 25))
    text = changed(text, with_share(after(tmp_path, text), "next", 0))
    routes = after(tmp_path, text).routes
    assert (routes.version, routes.shares) == (3, {})


def test_removed_model_is_removed_with_its_share(tmp_path: Any) -> None:
    text = changed(TEXT, with_share(after(tmp_path, TEXT), "next", 25))
    inventory = after(tmp_path, changed(text, without(after(tmp_path, text), "next")))
    assert (dict(inventory.models.further), inventory.routes.shares) == ({}, {})


@pytest.mark.parametrize("name", ["default", "fallback", "nxt"])
def test_other_names_have_no_share(tmp_path: Any, name: str) -> None:
    with pytest.raises(ClawdError, match="cannot have a share: `models` declares no further model"):
        with_share(after(tmp_path, TEXT), name, 5)


def shown(**changes: Any) -> UsedRoutes:
    model = {
        "model": "m",
        "share": 5,
        "declared_share": 5,
        "stopped": None,
        "breaker": "closed",
        "health": "ready",
        "answering": 0,
        "waiting": 0,
        "judged": 30,
    }
    return routes_of({"version": 2, "problem": "", "models": {"next": {**model, **changes}}})


def test_promotion_is_refused_where_the_judge_took_the_share_away() -> None:
    refuse_stopped("next", {"bot1": shown()})
    with pytest.raises(ClawdError, match="bot2: `next` has lost its share: it is slow"):
        refuse_stopped("next", {"bot1": shown(), "bot2": shown(stopped="it is slow", share=0)})


def test_promotion_is_refused_where_the_model_does_not_answer_or_is_unknown() -> None:
    with pytest.raises(ClawdError, match="does not answer"):
        refuse_stopped("next", {"bot1": shown(breaker="open")})
    with pytest.raises(ClawdError, match="does not know `other` yet"):
        refuse_stopped("other", {"bot1": shown()})


def test_every_step_is_a_table_that_the_bot_accepts() -> None:
    models = {name: {"endpoint": "http://127.0.0.1:1/v1", "model": "m"} for name in ("default", "next")}
    for share in STEPS:
        table = {"version": 1, "models": models, "shares": {"next": share}}
        assert RouteTable.model_validate(table).shares == {"next": share}
