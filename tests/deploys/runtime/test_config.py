"""What the components write is what the two programs read."""

import json
from pathlib import Path
from typing import Any

import pytest

from clawd_runtime.bot.models.remote_policy import EVERYTHING
from clawd_runtime.bot.models.routes import JudgeSettings, RouteTable, load_routes
from clawd_runtime.bot.settings import load_settings
from clawd_runtime.engine.settings import read_settings
from deploys.resources import HostResources
from deploys.runtime.config import POLICY, ROUTES, bot_config, engine_config, route_table
from deploys.runtime.deploy import bot_reads
from deploys.runtime.settings import (
    ENGINE_SOCKET,
    ENGINE_STATES,
    further_socket,
    needs_for,
    settings_for,
)
from inventory.model import Inventory
from tests.deploys.inventories import LOCAL, REMOTE, SECRETS, inventory

MODEL = "/var/lib/clawd/models/smollm2-135m-q8_0-0123456789ab.gguf"

INVENTORIES = {
    "one host": inventory(),
    "remote default": inventory(models={"default": REMOTE}),
    "with fallback": inventory(models={"default": LOCAL, "fallback": REMOTE}),
    "no channels": inventory(channels={}),
    "polling": inventory(channels={"telegram": {"token": SECRETS["telegram-token"], "mode": "polling"}}),
    "nginx elsewhere": inventory({"bot1": ["runtime"], "web1": ["nginx"]}),
    "no nginx": inventory({"bot1": ["runtime"]}),
    "Chinese": inventory(bot={"system_prompt": "你是团队的助手。", "language": "zh"}),
}


@pytest.mark.parametrize("declared", INVENTORIES.values(), ids=INVENTORIES)
def test_bot_reads_the_written_settings(declared: Inventory, tmp_path: Path) -> None:
    settings = settings_for(declared, "bot1")
    assert settings is not None
    file = tmp_path / "bot.json"
    file.write_text(bot_config(settings), encoding="utf-8")
    read = load_settings(file)
    assert read.system_prompt == declared.bot.system_prompt
    assert read.public_url == settings.public_url
    assert read.models.routes == Path(ROUTES)
    declared_channels = {name for name, value in declared.channels if value is not None}
    # `verify` asks through the console, where there is a secret to sign its questions.
    asked = {"console"} if declared_channels else set()
    assert set(read.channels) == declared_channels | asked


def table(declared: Inventory, folder: Path) -> RouteTable:
    settings = settings_for(declared, "bot1")
    assert settings is not None
    file = folder / "routes.json"
    file.write_text(route_table(settings), encoding="utf-8")
    return load_routes(file)


@pytest.mark.parametrize("declared", INVENTORIES.values(), ids=INVENTORIES)
def test_bot_reads_the_written_routes(declared: Inventory, tmp_path: Path) -> None:
    assert list(table(declared, tmp_path).models) == list(declared.models.named())


def test_further_models_shares_and_margins_reach_the_bot(tmp_path: Path) -> None:
    leaving = {"groups": [], "redact": ["email"], "channels": ["console"]}
    declared = inventory(
        models={"default": LOCAL, "new": {**REMOTE, "leaving": leaving, "answers_at_once": 3}},
        routes={"version": 7, "shares": {"new": 5}, "judge": {"slower": 2.0}},
    )
    read = table(declared, tmp_path)
    assert (read.version, read.shares, read.judge.slower) == (7, {"new": 5}, 2.0)
    policy = read.models["new"].policy.policy()
    assert (policy.groups, policy.users, policy.redact) == (frozenset(), None, ("email",))
    assert (policy.channels, policy.marks) == (frozenset({"console"}), True)
    assert read.models["new"].answers_at_once == 3
    assert read.models["default"].policy.policy() == EVERYTHING


def test_bot_learns_which_models_need_a_key(tmp_path: Path) -> None:
    keyless = {name: value for name, value in REMOTE.items() if name != "api_key"}
    declared = inventory(models={"default": LOCAL, "new": REMOTE, "other": keyless})
    models = table(declared, tmp_path).models
    assert {name: model.needs_key for name, model in models.items()} == {
        "default": False,
        "new": True,
        "other": False,
    }


def test_bot_reaches_each_engine_by_its_own_socket(tmp_path: Path) -> None:
    declared = inventory(models={"default": LOCAL, "new": {**LOCAL, "parallel": 2}})
    settings = settings_for(declared, "bot1")
    assert settings is not None
    read = table(declared, tmp_path)
    for name, engine in {"default": settings.engine, **settings.further}.items():
        assert engine is not None
        file = tmp_path / f"{name}.json"
        socket = further_socket(name) if name in settings.further else ENGINE_SOCKET
        file.write_text(engine_config(engine, MODEL, socket=socket), encoding="utf-8")
        assert read.models[name].endpoint == f"unix:{read_settings(file).socket}"
    assert len({model.endpoint for model in read.models.values()}) == 2
    assert read.models["new"].answers_at_once == 3


def test_same_margins_are_the_default_on_both_sides(tmp_path: Path) -> None:
    assert table(inventory(), tmp_path).judge == JudgeSettings()


def test_key_of_a_further_model_is_a_credential() -> None:
    settings = settings_for(inventory(models={"default": LOCAL, "new": REMOTE}), "bot1")
    assert settings is not None
    assert settings.credentials["model-new-api-key"].get_secret_value() == REMOTE["api_key"]


@pytest.mark.parametrize(
    ("models", "at_once"),
    [
        ({"default": LOCAL}, {"default": 5}),
        ({"default": {**LOCAL, "parallel": 64}, "fallback": REMOTE}, {"default": 65, "fallback": 32}),
        ({"default": REMOTE}, {"default": 32}),
        ({"default": REMOTE, "fallback": LOCAL}, {"default": 32, "fallback": 5}),
    ],
)
def test_bot_asks_no_more_at_once_than_the_engine_computes(
    models: dict[str, Any], at_once: dict[str, int], tmp_path: Path
) -> None:
    read = table(inventory(models=models), tmp_path)
    assert {name: model.answers_at_once for name, model in read.models.items()} == at_once


@pytest.mark.parametrize("declared", INVENTORIES.values(), ids=INVENTORIES)
def test_bot_json_contains_no_secret(declared: Inventory) -> None:
    settings = settings_for(declared, "bot1")
    assert settings is not None
    written = bot_config(settings) + route_table(settings)
    assert not [v for v in settings.credentials.values() if v.get_secret_value() in written]


def test_engine_reads_the_written_settings(tmp_path: Path) -> None:
    settings = settings_for(inventory(), "bot1")
    assert settings is not None
    assert settings.engine is not None
    file = tmp_path / "engine.json"
    file.write_text(engine_config(settings.engine, MODEL), encoding="utf-8")
    read = read_settings(file)
    assert (read.model, read.model_name) == (MODEL, "smollm2-135m-q8_0")
    assert (read.context_size, read.parallel, read.threads) == (2048, 4, None)
    assert f"unix:{read.socket}" == settings.models["default"].endpoint
    assert read.states.folder == ENGINE_STATES
    assert (read.states.memory, read.states.disk, read.states.days) == ((1 << 30) // 10, 4 << 30, 7)


@pytest.mark.parametrize("states", ["none", {"memory": "8M", "disk": "none", "days": 1}])
def test_engine_keeps_states_only_as_declared(tmp_path: Path, states: Any) -> None:
    declared = inventory(models={"default": {**LOCAL, "states": states}})
    settings = settings_for(declared, "bot1")
    assert settings is not None
    assert settings.engine is not None
    file = tmp_path / "engine.json"
    file.write_text(engine_config(settings.engine, MODEL), encoding="utf-8")
    read = read_settings(file).states
    assert (read.memory, read.disk) == (0 if states == "none" else 8 << 20, 0)
    needs = {need.what: need.disk for need in needs_for(declared, "bot1", HostResources(None, None))}
    assert "states of conversations" not in needs
    needs = {need.what: need.disk for need in needs_for(inventory(), "bot1", HostResources(None, None))}
    assert needs["states of conversations"] == 4 << 30


def test_bot_json_contains_chinese_text_unescaped() -> None:
    settings = settings_for(INVENTORIES["Chinese"], "bot1")
    assert settings is not None
    written = bot_config(settings)
    assert "你是团队的助手。" in written
    assert written.endswith("}\n")
    assert json.loads(written)["language"] == "zh"


def test_policy_is_a_file_whose_change_does_not_restart_the_bot(tmp_path: Path) -> None:
    declared = inventory(policy={"words": [{"name": "w", "words": ["法轮功"]}]})
    settings = settings_for(declared, "bot1")
    assert settings is not None
    file = tmp_path / "bot.json"
    file.write_text(bot_config(settings), encoding="utf-8")
    assert load_settings(file).policy == Path(POLICY)
    assert POLICY not in bot_reads(settings)


def test_bot_without_a_policy_reads_no_file_of_one() -> None:
    settings = settings_for(inventory(), "bot1")
    assert settings is not None
    assert "policy" not in json.loads(bot_config(settings))


def test_key_of_the_guard_model_is_a_credential() -> None:
    guard = {"endpoint": "https://guard.example.com/v1", "model": "guard", "api_key": "a-key-of-the-guard"}
    settings = settings_for(inventory(policy={"classifier": guard}), "bot1")
    assert settings is not None
    assert settings.credentials["classifier-api-key"].get_secret_value() == "a-key-of-the-guard"
    assert "a-key-of-the-guard" not in bot_config(settings)
