"""Messages during whose handling the bot has ended: their attempts, and which model answered."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from clawd_runtime.bot.models.attempt import AnswerSource, ModelAnswer
from clawd_runtime.bot.store import schema
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.text.messages import EN, ZH, Messages
from tests.bot.scripted import Chain, ScriptedChannel, message, running

History = tuple[Turn, ...]


async def rows(chain: Chain) -> dict[str, Any]:
    table = schema.inbox
    found = await chain.database.run(lambda c: c.execute(select(table)).all(), kind="read")
    return {row.event_id: row for row in found}


async def killed_while_answering(folder: Path, *events: str) -> list[str]:
    """Run a bot that ends, without the chance to record anything, while it answers; return the questions."""
    asked: list[str] = []

    async def hang(history: History, question: str) -> str:
        asked.append(question)
        await asyncio.sleep(60)
        return "never"

    chain = Chain(folder, ScriptedChannel(), answer=hang)
    await chain.take_up()
    for event in events:
        await chain.store.store(message(event, event, chat=event))
    for _ in range(40):
        await asyncio.sleep(0.005)
    chain.worker._attempted.clear()  # a killed process withdraws no attempt
    await chain.stop()
    return asked


async def test_message_that_ends_the_bot_three_times_gets_the_apology(tmp_path: Path) -> None:
    assert await killed_while_answering(tmp_path, "1") == ["1"]
    assert await killed_while_answering(tmp_path) == ["1"]
    assert await killed_while_answering(tmp_path) == ["1"]
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel)) as chain:
        await chain.settled()
        assert chain.count("clawd_messages_total", outcome="poison") == 1
        assert (await rows(chain))["1"].attempts == 3
    assert channel.texts == [EN.model_failed]


async def test_last_attempts_are_made_one_at_a_time_beside_new_messages(tmp_path: Path) -> None:
    events = ("1", "2", "3")
    for _ in range(2):
        assert sorted(await killed_while_answering(tmp_path, *events)) == list(events)
    running_now: set[str] = set()
    most = 0

    async def answer(history: History, question: str) -> str:
        nonlocal most
        running_now.add(question)
        most = max(most, len(running_now & set(events)))
        await asyncio.sleep(0.02)
        running_now.remove(question)
        return question

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer)) as chain:
        await chain.store.store(message("4", "4", chat="4"))
        await chain.settled()
    assert sorted(channel.texts) == ["1", "2", "3", "4"]
    assert channel.texts[-1] != "4"
    assert most == 1


async def test_orderly_stop_counts_no_attempt(tmp_path: Path) -> None:
    async def hang(history: History, question: str) -> str:
        await asyncio.sleep(60)
        return "never"

    for _ in range(4):
        async with running(Chain(tmp_path, ScriptedChannel(), answer=hang)) as chain:
            await chain.store.store(message("1"))
            while (await rows(chain))["1"].attempts != 1:
                await asyncio.sleep(0.005)
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel)) as chain:
        assert (await rows(chain))["1"].attempts == 0
        await chain.settled()
    assert channel.texts == ["re: hello"]


async def test_model_and_route_of_an_answer_are_stored(tmp_path: Path) -> None:
    def answer(history: History, question: str) -> ModelAnswer:
        return ModelAnswer("yes", source=AnswerSource("canary", 7))

    async with running(Chain(tmp_path, ScriptedChannel(), answer=answer)) as chain:
        await chain.store.store(message("1"))
        await chain.store.store(message("2", "/help"))
        await chain.settled()
        found = await rows(chain)
    assert (found["1"].model, found["1"].route) == ("canary", 7)
    assert (found["2"].model, found["2"].route) == (None, None)


@pytest.mark.parametrize(("question", "words"), [("Why?", EN), ("为什么？", ZH)])
async def test_mark_of_a_remote_model_is_translated_and_not_in_history(
    tmp_path: Path, question: str, words: Messages
) -> None:
    histories: list[History] = []

    def answer(history: History, question: str) -> ModelAnswer:
        histories.append(history)
        return ModelAnswer("Because", source=AnswerSource("fallback", 1, "deepseek-chat"))

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer, language="auto")) as chain:
        await chain.store.store(message("1", question))
        await chain.store.store(message("2", question))
        await chain.settled()
    assert channel.texts == [f"Because\n\n{words.answered_by.format(model='deepseek-chat')}"] * 2
    assert histories[1] == (Turn("user", question), Turn("assistant", "Because"))
