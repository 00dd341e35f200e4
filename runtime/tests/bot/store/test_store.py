"""The store against a real SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from clawd_runtime.bot.channels.base import Answer
from clawd_runtime.bot.store import history, schema
from clawd_runtime.bot.store.database import Database, open_database
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.store import Settlement, Store
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply, reply_key
from clawd_runtime.errors import StoreError

HOME = ConversationKey("telegram", "7")


def message(event: str = "1", *, conversation: ConversationKey = HOME, text: str = "hello") -> Inbound:
    return Inbound(
        event_id=event,
        message_id=f"m{event}",
        conversation=conversation,
        chat_kind="private",
        user="7",
        text=text,
        addressed=True,
        reply_to="99",
        received_at=1000.0,
        language="zh-hans",
    )


def reply(inbound: Inbound, text: str = "hi", part: int = 0, parts: int = 1) -> Reply:
    return Reply(
        key=reply_key(inbound.channel, inbound.event_id, part),
        event_id=inbound.event_id,
        conversation=inbound.conversation,
        chat_kind=inbound.chat_kind,
        reply_to=inbound.reply_to,
        text=text,
        part=part,
        parts=parts,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bot.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{path}")
    yield opened
    opened.close()


def test_the_steps_make_the_tables(database: Database, path: Path) -> None:
    made, declared = inspect(create_engine(f"sqlite:///{path}")), create_engine("sqlite://")
    schema.metadata.create_all(declared)
    wanted = inspect(declared)
    assert made.get_table_names() == wanted.get_table_names()
    for table in wanted.get_table_names():
        for what in ("get_columns", "get_pk_constraint"):
            assert repr(getattr(made, what)(table)) == repr(getattr(wanted, what)(table)), table
        uniques = [
            {tuple(unique["column_names"]) for unique in side.get_unique_constraints(table)}
            for side in (made, wanted)
        ]
        assert uniques[0] == uniques[1]
        indexes = [
            {(index["name"], tuple(index["column_names"])) for index in side.get_indexes(table)}
            for side in (made, wanted)
        ]
        assert indexes[0] == indexes[1]


def test_only_the_owner_may_read(database: Database, path: Path) -> None:
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_database_of_a_newer_release_is_refused(path: Path) -> None:
    open_database(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {len(schema.STEPS) + 1}")
    connection.close()
    with pytest.raises(StoreError, match="newer release"):
        open_database(f"sqlite:///{path}")


def test_two_bots_cannot_share_it(database: Database, path: Path) -> None:
    with pytest.raises(StoreError, match="another clawd-bot"):
        open_database(f"sqlite:///{path}")


def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"this is a text file, not a database, and longer than one header" * 20)
    with pytest.raises(StoreError, match=r"bot\.db"):
        open_database(f"sqlite:///{path}")


async def _round_trip(store: Store) -> None:
    told: list[tuple[int, ConversationKey]] = []
    store.on_message = told.extend
    assert await store.store(message("1")) is True
    assert told == [(1, HOME)]
    task = await store.task(1)
    assert task is not None
    assert task.inbound == message("1")
    assert await store.recall(task.inbound.conversation) == ()


def test_a_message_comes_back_as_it_was(database: Database) -> None:
    asyncio.run(_round_trip(Store(database)))


async def _repetitions(store: Store) -> None:
    told: list[tuple[int, ConversationKey]] = []
    store.on_message = told.extend
    first = message("1")
    assert await store.store(first)
    assert not await store.store(first)
    assert not await store.store(replace(first, event_id="replayed under another event id"))
    assert not await store.store(replace(first, message_id="another message"))
    other_channel = ConversationKey("feishu", "7")
    assert await store.store(replace(first, conversation=other_channel))
    assert [conversation.channel for _, conversation in told] == ["telegram", "feishu"]


def test_repetitions_are_recognised_by_either_id(database: Database) -> None:
    asyncio.run(_repetitions(Store(database)))


async def _settle(store: Store) -> None:
    queued: list[tuple[int, ConversationKey]] = []
    store.on_reply = queued.extend
    await store.store(message("1"))
    task = await store.task(1)
    assert task
    assert await store.answer_to("telegram", "1") is None
    parts = (reply(task.inbound, "a", 0, 2), reply(task.inbound, "b", 1, 2))
    said = (Turn("user", "hello"), Turn("assistant", "ab"))
    assert await store.settle(task, Settlement("answered", parts, said))
    assert not await store.settle(task, Settlement("answered", parts, said))
    assert len(queued) == 2
    assert await store.task(1) is None
    assert await store.answer_to("telegram", "1") == Answer("a\nb")
    await store.store(message("2"))
    following = await store.task(2)
    assert following
    assert await store.recall(following.inbound.conversation) == said
    assert await store.settle(following, Settlement("ignored"))
    assert await store.answer_to("telegram", "2") == Answer(None)


def test_settling_answers_once_and_remembers(database: Database) -> None:
    asyncio.run(_settle(Store(database)))


async def _all_or_nothing(store: Store) -> None:
    await store.store(message("1"))
    task = await store.task(1)
    assert task
    twice_the_same_key = (reply(task.inbound), reply(task.inbound))
    with pytest.raises(StoreError):
        await store.settle(task, Settlement("answered", twice_the_same_key, (Turn("user", "x"),)))
    again = await store.task(1)
    assert again is not None
    assert await store.recall(again.inbound.conversation) == ()
    assert (await store.unfinished())[1] == []


def test_settling_is_all_or_nothing(database: Database) -> None:
    asyncio.run(_all_or_nothing(Store(database)))


async def _anew(store: Store) -> None:
    for event, settlement in (
        ("1", Settlement("answered", (), (Turn("user", "old"), Turn("assistant", "old")))),
        ("2", Settlement("command", (), (), begins_anew=True)),
        ("3", Settlement("answered", (), (Turn("user", "new"), Turn("assistant", "new")))),
    ):
        await store.store(message(event))
        task = await store.task(int(event))
        assert task
        await store.settle(task, settlement)
    await store.store(message("4"))
    task = await store.task(4)
    assert task
    assert [turn.text for turn in await store.recall(task.inbound.conversation)] == ["new", "new"]
    topic = ConversationKey("telegram", "7", "topic")
    await store.store(message("5", conversation=topic))
    other = await store.task(5)
    assert other
    assert await store.recall(other.inbound.conversation) == ()


def test_a_new_conversation_forgets_and_topics_are_apart(database: Database) -> None:
    asyncio.run(_anew(Store(database)))


async def _outbox(store: Store) -> None:
    await store.store(message("1"))
    task = await store.task(1)
    assert task
    await store.settle(task, Settlement("answered", (reply(task.inbound),)))
    _, [(id, conversation)] = await store.unfinished()
    assert conversation == HOME
    await store.begin_sending(id)
    interrupted = await store.delivery(id)
    assert interrupted
    assert interrupted.interrupted
    assert interrupted.reply.attempt == 2
    assert interrupted.first_attempt_at == 50.0
    await store.postpone(id, 123.0, "429")
    waiting = await store.delivery(id)
    assert waiting
    assert not waiting.interrupted
    assert waiting.not_before == 123.0
    await store.finish(id, "doubtful", problem="no word")
    assert await store.delivery(id) is None
    assert (await store.depths()).outbox == {"doubtful": 1}


def test_the_outbox_keeps_what_became_of_a_message(database: Database) -> None:
    asyncio.run(_outbox(Store(database, clock=lambda: 50.0)))


async def _state(store: Store) -> None:
    told: list[tuple[int, ConversationKey]] = []
    store.on_message = told.extend
    assert await store.state("telegram", "offset") is None
    await store.store_all((message("1"), message("1"), message("2")), "telegram", {"offset": "3"})
    await store.store_all((), "telegram", {"offset": "4"})
    assert await store.state("telegram", "offset") == "4"
    assert await store.state("feishu", "offset") is None
    assert [seq for seq, _ in told] == [1, 2]


def test_state_is_stored_with_the_messages(database: Database) -> None:
    asyncio.run(_state(Store(database)))


async def _purge(database: Database) -> None:
    now = 1000.0
    store = Store(database, clock=lambda: now)
    for event, anew in (("1", False), ("2", True), ("3", False)):
        await store.store(message(event))
        task = await store.task(int(event))
        assert task
        said = (Turn("user", event),)
        await store.settle(task, Settlement("answered", (reply(task.inbound),), said, begins_anew=anew))
    _, [(sent, _), *_] = await store.unfinished()
    await store.finish(sent, "sent", ref="5")
    await store.store(message("open"))
    now = 2000.0
    assert await store.purge(keep=1001.0) == 0
    removed = await store.purge(keep=999.0)
    assert removed == 3 + 1 + 1  # messages dealt with, the reply sent, the turn before /new
    open_messages, open_replies = await store.unfinished()
    assert len(open_messages) == 1
    assert len(open_replies) == 2
    task = await store.task(open_messages[0][0])
    assert task
    assert [turn.text for turn in await store.recall(task.inbound.conversation)] == ["2", "3"]


def test_purging_leaves_what_is_open_and_remembered(database: Database) -> None:
    asyncio.run(_purge(database))


async def _cancelled(store: Store) -> None:
    told: list[tuple[int, ConversationKey]] = []
    store.on_message = told.extend
    waiting = asyncio.create_task(store.store(message("1")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await store.store(message("1")) is False
    assert told == [(1, HOME)]


def test_a_stored_message_is_told_even_when_the_caller_has_gone(database: Database) -> None:
    asyncio.run(_cancelled(Store(database)))


async def _burst(store: Store, count: int) -> None:
    order: list[int] = []
    store.on_message = lambda queued: order.extend(seq for seq, _ in queued)
    await asyncio.gather(*(store.store(message(str(number))) for number in range(count)))
    assert order == list(range(1, count + 1))


def test_a_burst_is_stored_in_order(database: Database) -> None:
    asyncio.run(_burst(Store(database), 1000))


def test_errors_do_not_quote_what_people_wrote(database: Database) -> None:
    async def break_it() -> None:
        store = Store(database)
        await store.store(message("1", text="SECRETWORDS"))
        task = await store.task(1)
        assert task
        same = reply(task.inbound, "SECRETWORDS")
        await store.settle(task, Settlement("answered", (same, same)))

    with pytest.raises(StoreError) as caught:
        asyncio.run(break_it())
    assert "SECRETWORDS" not in repr(caught.value) + str(caught.value.__context__)


async def _much(store: Store) -> None:
    await store.store(message())
    task = await store.task(1)
    assert task is not None
    said = tuple(Turn(("user", "assistant")[number % 2], f"{number} " + "字" * 100) for number in range(10))
    await store.settle(task, Settlement("answered", turns=said))
    assert await store.recall(HOME) == said[-2:]


def test_no_more_is_recalled_than_memory_should_hold(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "REMEMBERED_BYTES", 700)
    asyncio.run(_much(Store(database)))


def _column(path: Path, query: str) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [value for (value,) in connection.execute(query)]
    finally:
        connection.close()


async def _dealt_with(store: Store) -> None:
    dealt_with = (("1", "not_addressed"), ("2", "rate_limited"), ("3", "answered"))
    for event, outcome in dealt_with:
        await store.store(message(event, text=f"words {event}"))
        task = await store.task(int(event))
        assert task
        turns = (Turn("user", task.inbound.text),) if outcome == "answered" else ()
        assert await store.settle(task, Settlement(outcome, turns=turns))
    for event, _ in dealt_with:
        assert not await store.store(message(event, text="again"))


def test_the_words_of_ignored_messages_are_not_kept(database: Database, path: Path) -> None:
    asyncio.run(_dealt_with(Store(database)))
    assert _column(path, "SELECT text FROM inbox ORDER BY seq") == ["", "", "words 3"]


async def _talk(store: Store, conversation: ConversationKey, exchanges: int) -> None:
    for number in range(exchanges):
        event = f"{conversation.chat}-{number}"
        await store.store(message(event, conversation=conversation))
        ((seq, _),) = (await store.unfinished())[0]
        task = await store.task(seq)
        assert task
        said = (Turn("user", f"question {number}"), Turn("assistant", f"answer {number}"))
        await store.settle(task, Settlement("answered", turns=said, begins_anew=number == 3))


def test_what_is_never_recalled_again_is_forgotten(
    database: Database, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "REMEMBERED_TURNS", 4)
    store = Store(database)
    asyncio.run(_talk(store, ConversationKey("telegram", "8"), 2))
    asyncio.run(_talk(store, HOME, 6))
    of_home = "SELECT text FROM turns WHERE chat = '7' ORDER BY id"
    assert _column(path, of_home) == ["question 4", "answer 4", "question 5", "answer 5"]
    assert len(_column(path, "SELECT text FROM turns WHERE chat = '8'")) == 4
