"""Which model a conversation gets by the table of routes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clawd_runtime.bot.models.routes import RouteTable, load_routes
from clawd_runtime.bot.values import ConversationKey
from clawd_runtime.errors import SettingsError

ENDPOINT = {"endpoint": "unix:/run/clawd-engine/engine.sock", "model": "m"}
CONVERSATIONS = [ConversationKey("telegram", str(chat), str(chat % 3)) for chat in range(2000)]


def table(shares: dict[str, int] | None = None, **changes: Any) -> dict[str, Any]:
    models = dict.fromkeys(("default", "fallback", "new", "other"), ENDPOINT)
    return {"version": 1, "models": models, "shares": shares or {}} | changes


def routes(shares: dict[str, int] | None = None) -> RouteTable:
    return RouteTable.model_validate(table(shares))


def answered_by(name: str, shares: dict[str, int]) -> set[ConversationKey]:
    found = routes(shares)
    return {each for each in CONVERSATIONS if found.order(each)[0] == name}


def test_default_answers_without_shares_then_fallback() -> None:
    assert {routes().order(each) for each in CONVERSATIONS} == {("default", "fallback")}


@pytest.mark.parametrize("share", [5, 25, 100])
def test_model_gets_its_share_of_conversations(share: int) -> None:
    assert len(answered_by("new", {"new": share})) / len(CONVERSATIONS) == pytest.approx(
        share / 100, abs=0.02
    )


def test_conversation_stays_with_its_model_while_the_share_grows() -> None:
    steps = [answered_by("new", {"new": share}) for share in (5, 25, 100)]
    assert steps[0] < steps[1] < steps[2] == set(CONVERSATIONS)


def test_shares_of_several_models_do_not_overlap() -> None:
    shares = {"new": 30, "other": 70}
    assert len(answered_by("new", shares)) + len(answered_by("other", shares)) == len(CONVERSATIONS)
    assert not answered_by("default", shares)


def test_default_and_fallback_answer_while_the_model_cannot() -> None:
    assert routes({"new": 100}).order(CONVERSATIONS[0]) == ("new", "default", "fallback")


def test_stopped_model_loses_its_conversations_to_the_default() -> None:
    found = routes({"new": 50})
    assert {found.order(each, {"new"}) for each in CONVERSATIONS} == {("default", "fallback")}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (table({"new": 101}), "shares.new"),
        (table({"new": 60, "other": 60}), "more than 100 %"),
        (table({"elsewhere": 5}), "no model is called elsewhere"),
        (table({"fallback": 5}), "default and fallback"),
        (table(models={"new": ENDPOINT}), "`default`"),
        (table(version=-1), "version"),
        (table(models={"default": ENDPOINT, "A b": ENDPOINT}), "models.A b"),
        (table(unknown=1), "unknown"),
        ("not JSON", "JSON"),
    ],
)
def test_mistake_in_the_file_is_named(tmp_path: Path, content: Any, problem: str) -> None:
    file = tmp_path / "routes.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(SettingsError) as caught:
        load_routes(file)
    assert str(file) in str(caught.value)
    assert problem in str(caught.value)


def test_missing_file_is_reported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        load_routes(tmp_path / "routes.json")
