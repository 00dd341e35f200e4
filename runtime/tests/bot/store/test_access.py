"""Access and usage in both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from clawd_runtime.bot.access.values import (
    AccessRevoked,
    CodeApproved,
    CodeIssued,
    CodeRefused,
    Grant,
    Guesses,
    PairingRequest,
    Person,
    TokensUsed,
    UsageToday,
)
from clawd_runtime.bot.store import access, members
from clawd_runtime.bot.store.backends.database import OpenDatabase, open_database
from clawd_runtime.bot.values import ConversationKey
from tests.bot.postgres import PASSWORD

ANN = Person("9", ConversationKey("telegram", "9"), "private")
IN_GROUP = Person("9", ConversationKey("telegram", "-100"), "group")
BOB = Person("8", ConversationKey("telegram", "-100"), "group")
REQUEST = PairingRequest("telegram", "9", "d1", ANN.conversation, "zh", 1000.0, 1900.0, 1, 1000.0)


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenDatabase]:
    url = f"sqlite:///{tmp_path}/bot.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").new_database()
    opened = await asyncio.to_thread(open_database, url, PASSWORD)
    await opened.join(1, lambda connection: members.join(connection, 1, (), 0.0))
    yield opened
    await asyncio.to_thread(opened.close)


async def test_request_becomes_grant_and_is_revoked(database: OpenDatabase) -> None:
    await database.run(lambda c: access.apply(c, CodeIssued(REQUEST)))
    renewed = replace(REQUEST, digest="d2", issued=2)
    await database.run(lambda c: access.apply(c, CodeIssued(renewed)))
    assert await database.run(lambda c: access.request_with(c, "d1")) is None
    assert await database.run(lambda c: access.request_with(c, "d2")) == renewed
    assert await database.run(lambda c: access.all_requests(c, 1500.0)) == [renewed]
    assert await database.run(lambda c: access.pending(c, "telegram", 1900.0)) == 0
    grant = Grant("telegram", "9", "telegram:1", 1500.0)
    for _ in range(2):  # two administrators may confirm it at the same time
        await database.run(lambda c: access.apply(c, CodeApproved(grant)))
    assert await database.run(access.all_grants) == [grant]
    assert await database.run(lambda c: access.request_of(c, "telegram", "9")) is None
    assert not await database.run(lambda c: access.is_granted(c, "feishu", "9"))
    await database.run(lambda c: access.apply(c, AccessRevoked("telegram", "9")))
    assert not await database.run(lambda c: access.is_granted(c, "telegram", "9"))


async def test_wrong_codes_are_counted(database: OpenDatabase) -> None:
    assert await database.run(lambda c: access.guesses_of(c, "telegram", "1")) == Guesses()
    for count in (1, 2):
        change = CodeRefused("telegram", "1", Guesses(count, 1000.0))
        await database.run(partial(access.apply, change=change))
    assert await database.run(lambda c: access.guesses_of(c, "telegram", "1")) == Guesses(2, 1000.0)


async def test_usage_is_added_by_day_person_group_and_model(database: OpenDatabase) -> None:
    used = [
        ("2026-11-30", ANN, TokensUsed("default", 10, 5)),
        ("2026-11-30", ANN, TokensUsed("default", 1, 1)),
        ("2026-11-30", IN_GROUP, TokensUsed("big", 100, 0)),
        ("2026-11-30", BOB, TokensUsed("big", 2**31, 1000)),
        ("2026-12-01", ANN, TokensUsed("default", 7, 7)),
    ]
    for day, person, tokens in used:
        await database.run(partial(access.add_usage, day=day, person=person, used=tokens))
    models = {"default": 17, "big": 100 + 2**31 + 1000}

    async def today(person: Person, *, with_models: bool = True) -> UsageToday:
        return await database.run(
            lambda c: access.usage_today(c, "2026-11-30", person, with_models=with_models)
        )

    assert await today(ANN) == UsageToday(117, 0, models)
    assert await today(BOB) == UsageToday(2**31 + 1000, models["big"], models)
    assert await today(ANN, with_models=False) == UsageToday(117, 0)
    rows = await database.run(lambda c: list(access.usage_rows(c, "2026-11-30", "2026-11-30")))
    assert [(row.user, row.chat, row.answers, row.prompt_tokens) for row in rows] == [
        ("8", "-100", 1, 2**31),
        ("9", "", 2, 11),
        ("9", "-100", 1, 100),
    ]


async def test_what_limits_nobody_any_more_is_purged(database: OpenDatabase) -> None:
    await database.run(lambda c: access.apply(c, CodeIssued(REQUEST)))
    await database.run(lambda c: access.apply(c, CodeRefused("telegram", "1", Guesses(1, 1000.0))))
    await database.run(lambda c: access.add_usage(c, "2025-10-26", ANN, TokensUsed("default", 1, 1)))
    assert await database.run(lambda c: access.purge(c, 1000.0 + 3600, "2025-10-26")) == 0
    assert await database.run(lambda c: access.purge(c, 1000.0 + 2 * 86400, "2025-10-27")) == 3
