"""The table of routes while the bot runs: read again, agreed upon with other bots, never a broken one."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import Any, cast

import pytest

from clawd_runtime.bot.models.completion import Health
from clawd_runtime.bot.models.fleet import ModelFleet
from clawd_runtime.bot.models.guarded import GuardedModel
from clawd_runtime.bot.models.judge import HOPELESS, Trial
from clawd_runtime.bot.models.remote_policy import Asker
from clawd_runtime.bot.models.routes import load_routes
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.service.routing import RouteKeeper
from clawd_runtime.bot.settings import ModelEndpoint
from clawd_runtime.bot.store.backends.database import open_database
from clawd_runtime.bot.store.store import Store
from clawd_runtime.bot.values import ConversationKey

ASKERS = [Asker(number, ConversationKey("telegram", str(number)), "7") for number in range(400)]


class Client:
    local = False

    def __init__(self, name: str, endpoint: ModelEndpoint) -> None:
        self.name = name
        self.model = endpoint.model

    async def health(self) -> Health:
        return "ready"


class Bot:
    """The part of a bot that keeps the routes."""

    def __init__(self, file: Path, store: Store, keys: Collection[str] = ()) -> None:
        self.closed: list[str] = []
        self.metrics = Metrics()
        self.fleet = ModelFleet(load_routes(file), self._make)
        self.keeper = RouteKeeper(self.fleet, file, store, self.metrics, has_key=keys.__contains__)

    def _make(self, name: str, endpoint: ModelEndpoint) -> GuardedModel:
        async def close() -> None:
            self.closed.append(endpoint.model)

        return GuardedModel(cast(Any, Client(name, endpoint)), 4, closing=close)

    def answered_by(self, name: str) -> int:
        first = [self.fleet.pool.selection(asker).models[0].name for asker in ASKERS]
        return first.count(name)

    def share(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value("clawd_route_share_percent", {"model": name})

    def value(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)


class Routes:
    """The file, written as the program does: a new one that replaces the old one."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.version = 0

    def write(self, model: str = "first", **shares: int) -> None:
        self.version += 1
        models = {name: {"endpoint": "http://127.0.0.1:1/v1", "model": name} for name in shares}
        models["default"] = {"endpoint": "http://127.0.0.1:1/v1", "model": model}
        judge = {"least": 5}
        self.put({"version": self.version, "models": models, "shares": shares, "judge": judge})

    def put(self, content: Any) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(content))
        os.replace(new, self.file)  # noqa: PTH105 - as the program does


@pytest.fixture
def routes(tmp_path: Path) -> Routes:
    made = Routes(tmp_path / "routes.json")
    made.write()
    return made


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    database = open_database(f"sqlite:///{tmp_path}/bot.db")
    made = Store(database)
    await made.join(1, ())
    yield made
    await asyncio.to_thread(database.close)


async def test_changed_file_is_used_without_a_restart(routes: Routes, store: Store) -> None:
    bot = Bot(routes.file, store)
    default = bot.fleet.models["default"]
    assert (bot.answered_by("default"), bot.value("clawd_route_version")) == (400, 1)
    routes.write(new=25)
    await bot.keeper.look()
    assert bot.fleet.models["default"] is default  # with its breaker and those who wait for it
    assert 60 < bot.answered_by("new") < 140
    assert bot.fleet.pool.selection(ASKERS[0]).version == 2
    assert (bot.value("clawd_route_version"), bot.share("new"), bot.share("default")) == (2, 25, 75)


async def test_file_with_a_mistake_leaves_the_former_table_in_use(routes: Routes, store: Store) -> None:
    bot = Bot(routes.file, store)
    routes.put({"version": 9})
    await bot.keeper.look()
    assert (bot.answered_by("default"), bot.value("clawd_route_version")) == (400, 1)
    assert bot.value("clawd_route_file_readable") == 0
    assert "models" in bot.keeper.view()["problem"]
    routes.file.unlink()
    await bot.keeper.look()
    assert bot.answered_by("default") == 400
    routes.write(new=100)
    await bot.keeper.look()
    assert (bot.answered_by("new"), bot.value("clawd_route_file_readable")) == (400, 1)


async def test_model_whose_key_is_new_is_used_after_the_next_start(routes: Routes, store: Store) -> None:
    """The table is written before the restart that brings the key; with no key, each request would fail."""
    bot = Bot(routes.file, store)
    routes.write(new=50)
    content = json.loads(routes.file.read_text())
    content["models"]["new"]["needs_key"] = True
    routes.put(content)
    await bot.keeper.look()
    assert (bot.answered_by("default"), bot.value("clawd_route_version")) == (400, 1)
    assert "without the API key of new" in bot.keeper.view()["problem"]
    restarted = Bot(routes.file, store, keys={"new"})
    await restarted.keeper.look()
    assert restarted.answered_by("new") > 0
    assert restarted.keeper.view()["problem"] == ""


async def test_replaced_model_finishes_its_answers_before_it_is_closed(routes: Routes, store: Store) -> None:
    bot = Bot(routes.file, store)
    async with bot.fleet.models["default"].gate.place(1, "anna"):
        routes.write("second")
        await bot.keeper.look()
        assert (bot.fleet.table.models["default"].model, bot.closed) == ("second", [])
    await bot.keeper.look()
    assert bot.closed == ["first"]


async def test_bad_model_loses_its_share_in_all_bots_and_keeps_it_lost_after_a_restart(
    routes: Routes, store: Store
) -> None:
    routes.write(new=50)
    first, second = Bot(routes.file, store), Bot(routes.file, store)
    assert first.answered_by("new") > 0
    for _ in range(HOPELESS):
        first.fleet.observe("new", Trial())
    await first.keeper.look()
    assert (first.answered_by("new"), first.share("new"), first.share("default")) == (0, 0, 100)
    second.keeper._agree_at = 0.0
    await second.keeper.look()
    assert second.answered_by("new") == 0
    assert "failed" in second.keeper.view()["models"]["new"]["stopped"]
    third = Bot(routes.file, store)
    await third.keeper.look()
    assert third.answered_by("new") == 0


async def test_next_version_of_the_table_gives_a_stopped_model_another_chance(
    routes: Routes, store: Store
) -> None:
    routes.write(new=50)
    bot = Bot(routes.file, store)
    for _ in range(HOPELESS):
        bot.fleet.observe("new", Trial())
    await bot.keeper.look()
    assert bot.answered_by("new") == 0
    routes.write(new=100)
    await bot.keeper.look()
    assert bot.answered_by("new") == 400


async def stopped(bot: Bot) -> None:
    for _ in range(HOPELESS):
        bot.fleet.observe("new", Trial())
    await bot.keeper.look()
    assert bot.answered_by("new") == 0


async def test_version_that_repeats_after_routes_were_removed_gives_a_model_another_chance(
    routes: Routes, store: Store
) -> None:
    routes.write(new=50)
    bot = Bot(routes.file, store)
    await stopped(bot)
    content = json.loads(routes.file.read_text())
    routes.put({"models": {"default": content["models"]["default"]}})
    await bot.keeper.look()
    routes.put(content)
    await bot.keeper.look()
    assert bot.answered_by("new") > 0
    restarted = Bot(routes.file, store)
    await restarted.keeper.look()
    assert restarted.answered_by("new") > 0


@pytest.mark.parametrize("change", ["model", "share"])
async def test_same_version_with_another_model_or_share_gives_it_another_chance(
    routes: Routes, store: Store, change: str
) -> None:
    routes.write(new=50)
    bot = Bot(routes.file, store)
    await stopped(bot)
    content = json.loads(routes.file.read_text())
    if change == "model":
        content["models"]["new"]["model"] = "another"
    else:
        content["shares"]["new"] = 60
    routes.put(content)
    restarted = Bot(routes.file, store)
    for each in (bot, restarted):
        await each.keeper.look()
        assert each.answered_by("new") > 0


async def test_verdict_deleted_by_a_bot_with_the_former_table_reaches_other_bots(
    routes: Routes, store: Store, tmp_path: Path
) -> None:
    former = Routes(tmp_path / "former.json")
    former.write(new=10)
    routes.version = 1
    routes.write(new=50)
    bot = Bot(routes.file, store)
    await stopped(bot)
    await Bot(former.file, store).keeper.look()
    bot.keeper._agree_at = 0.0
    await bot.keeper.look()
    other = Bot(routes.file, store)
    await other.keeper.look()
    assert other.answered_by("new") == 0


async def test_good_model_keeps_its_share(routes: Routes, store: Store) -> None:
    routes.write(new=50)
    bot = Bot(routes.file, store)
    for _ in range(50):
        bot.fleet.observe("default", Trial(0.5, 3.0))
        bot.fleet.observe("new", Trial(0.5, 3.0))
        await bot.keeper.look()
    assert bot.keeper.view()["models"]["new"]["judged"] == 50
    assert bot.share("new") == 50


async def test_models_left_are_those_of_the_conversation(routes: Routes, store: Store) -> None:
    """A canary takes the place of the default only in the conversations of its share."""
    routes.write(canary=50)
    fleet = Bot(routes.file, store).fleet
    of_canary = [fleet.pool.selection(asker).models[0].name == "canary" for asker in ASKERS]
    assert set(of_canary) == {True, False}
    assert [fleet.exhaust(frozenset({"default"}), asker) for asker in ASKERS] == of_canary
    assert all(fleet.exhaust(frozenset({"canary"}), asker) for asker in ASKERS)
    assert not any(fleet.exhaust(frozenset({"canary", "default"}), asker) for asker in ASKERS)
    assert all(fleet.exhaust(frozenset(), asker) for asker in ASKERS)
