"""The store on a real SQLite file and a real PostgreSQL."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, inspect, make_url, text
from sqlalchemy.event import listens_for

from clawd_runtime.bot.handling.rate_limit import RateLimitVerdict
from clawd_runtime.bot.ports import StoredAnswer
from clawd_runtime.bot.store import history, schema
from clawd_runtime.bot.store.backends.database import OpenDatabase, open_database
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.inbox import Behind, Task
from clawd_runtime.bot.store.outbox import Delivery
from clawd_runtime.bot.store.store import Settlement, Store
from clawd_runtime.bot.values import ConversationKey, Inbound, MessagePart, Quote, Reply, reply_key
from clawd_runtime.errors import StoreError
from tests.bot.postgres import PASSWORD, Server

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


def engine_of(url: str) -> Engine:
    return create_engine(make_url(url).set(password=PASSWORD) if "postgresql" in url else url)


async def joined(database: OpenDatabase, clock: Callable[[], float] = time.time, **more: Any) -> Store:
    store = Store(database, clock, **more)
    await store.join(1, ("telegram", "feishu"))
    return store


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]
    finally:
        engine.dispose()


def test_migration_steps_create_the_tables(database: OpenDatabase, url: str, postgres: Server) -> None:
    made = inspect(engine_of(url))
    declared = engine_of(postgres.new_database() if "postgresql" in url else "sqlite://")
    schema.metadata.create_all(declared)
    wanted = inspect(declared)
    assert set(made.get_table_names()) - {"schema_version"} == set(wanted.get_table_names())
    for table in wanted.get_table_names():
        for what in ("get_columns", "get_pk_constraint"):
            sides = [_comparable(getattr(side, what)(table)) for side in (made, wanted)]
            assert sides[0] == sides[1], table
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


def _comparable(found: Any) -> list[str]:
    """Return the columns sorted, since a column that was added later is the last one."""
    if isinstance(found, dict):
        return [repr(found.get("constrained_columns"))]
    return sorted(repr({name: column[name] for name in ("name", "type", "nullable")}) for column in found)


def test_database_is_readable_by_owner_only(path: Path) -> None:
    other = path.with_name("other")
    other.touch(mode=0o644)
    assert stat.S_IMODE(other.stat().st_mode) == 0o644, "not by the umask"
    other.unlink()
    database = open_database(f"sqlite:///{path}")
    written = set(path.parent.iterdir())
    assert path in written
    for file in written:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    database.close()


def test_database_of_newer_release_is_refused(url: str) -> None:
    open_database(url, PASSWORD).close()
    engine = engine_of(url)
    with engine.begin() as connection:
        newer = len(schema.steps_of(connection)) + 1
        counted = {
            "sqlite": f"PRAGMA user_version = {newer}",
            "postgresql": f"UPDATE schema_version SET version = {newer}",
        }
        connection.execute(text(counted[connection.dialect.name]))
    engine.dispose()
    with pytest.raises(StoreError, match="newer release"):
        open_database(url, PASSWORD)


async def test_database_of_older_release_is_migrated(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        for statement in schema.SQLITE_STEPS[0]:
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
        connection.execute(
            "INSERT INTO inbox VALUES (7, 'telegram', 'e', 'm', '7', '', 'private', '7', 'hello', 1, '99', "
            "NULL, 1000.0, NULL, NULL)"
        )
    connection.close()
    database = open_database(f"sqlite:///{path}")
    store = await joined(database)
    assert (await store.unfinished())[0] == [(7, HOME)]
    database.close()


def test_second_bot_on_same_file_is_refused(path: Path) -> None:
    database = open_database(f"sqlite:///{path}")
    with pytest.raises(StoreError, match="another clawd-bot"):
        open_database(f"sqlite:///{path}")
    database.close()


def test_file_that_is_not_a_database_is_refused(path: Path) -> None:
    path.write_bytes(b"this is a text file, not a database, and longer than one header" * 20)
    with pytest.raises(StoreError, match=r"bot\.db"):
        open_database(f"sqlite:///{path}")


async def test_stored_message_is_returned_unchanged(database: OpenDatabase) -> None:
    store = await joined(database)
    added: list[tuple[int, ConversationKey]] = []
    store.on_message = added.extend
    assert await store.store(message("1")) is True
    assert added == [(1, HOME)]
    task = await store.take(1)
    assert isinstance(task, Task)
    assert task.inbound == message("1")
    assert await store.recall(task.inbound.conversation) == ()


async def test_duplicates_are_recognised_by_either_id(database: OpenDatabase) -> None:
    store = await joined(database)
    added: list[tuple[int, ConversationKey]] = []
    store.on_message = added.extend
    first = message("1")
    assert await store.store(first)
    assert not await store.store(first)
    assert not await store.store(replace(first, event_id="replayed under another event id"))
    assert not await store.store(replace(first, message_id="another message"))
    other_channel = ConversationKey("feishu", "7")
    assert await store.store(replace(first, conversation=other_channel))
    assert [conversation.channel for _, conversation in added] == ["telegram", "feishu"]


async def test_settle_stores_replies_and_history_once(database: OpenDatabase) -> None:
    store = await joined(database)
    queued: list[tuple[int, ConversationKey]] = []
    store.on_reply = queued.extend
    await store.store(message("1"))
    task = await store.take(1)
    assert isinstance(task, Task)
    assert await store.answer_to("telegram", "1") is None
    parts = (reply(task.inbound, "a", 0, 2), reply(task.inbound, "b", 1, 2))
    said = (Turn("user", "hello"), Turn("assistant", "ab"))
    assert await store.settle(task, Settlement("answered", parts, said))
    assert not await store.settle(task, Settlement("answered", parts, said))
    assert len(queued) == 2
    assert await store.take(1) is None
    assert await store.answer_to("telegram", "1") == StoredAnswer("a\nb")
    await store.store(message("2"))
    following = await store.take(2)
    assert isinstance(following, Task)
    assert await store.recall(following.inbound.conversation) == said
    assert await store.settle(following, Settlement("ignored"))
    assert await store.answer_to("telegram", "2") == StoredAnswer(None)


async def test_settle_is_atomic(database: OpenDatabase) -> None:
    store = await joined(database)
    await store.store(message("1"))
    task = await store.take(1)
    assert isinstance(task, Task)
    twice_the_same_key = (reply(task.inbound), reply(task.inbound))
    with pytest.raises(StoreError):
        await store.settle(task, Settlement("answered", twice_the_same_key, (Turn("user", "x"),)))
    again = await store.take(1)
    assert isinstance(again, Task)
    assert await store.recall(again.inbound.conversation) == ()
    assert (await store.unfinished())[1] == []


async def test_new_conversation_resets_history_per_topic(database: OpenDatabase) -> None:
    store = await joined(database)
    for event, settlement in (
        ("1", Settlement("answered", (), (Turn("user", "old"), Turn("assistant", "old")))),
        ("2", Settlement("command", (), (), begins_anew=True)),
        ("3", Settlement("answered", (), (Turn("user", "new"), Turn("assistant", "new")))),
    ):
        await store.store(message(event))
        task = await store.take(int(event))
        assert isinstance(task, Task)
        await store.settle(task, settlement)
    await store.store(message("4"))
    task = await store.take(4)
    assert isinstance(task, Task)
    assert [turn.text for turn in await store.recall(task.inbound.conversation)] == ["new", "new"]
    topic = ConversationKey("telegram", "7", "topic")
    await store.store(message("5", conversation=topic))
    other = await store.take(5)
    assert isinstance(other, Task)
    assert await store.recall(other.inbound.conversation) == ()


async def test_outbox_records_final_state(database: OpenDatabase) -> None:
    store = await joined(database, lambda: 50.0)
    await store.store(message("1"))
    task = await store.take(1)
    assert isinstance(task, Task)
    await store.settle(task, Settlement("answered", (reply(task.inbound),)))
    [(id, conversation)] = (await store.unfinished()).replies
    assert conversation == HOME
    await store.begin_sending(id)
    interrupted = await store.delivery(id)
    assert isinstance(interrupted, Delivery)
    assert interrupted.interrupted
    assert interrupted.reply.attempt == 2
    assert interrupted.first_attempt_at == 50.0
    await store.postpone(id, 123.0, "429")
    waiting = await store.delivery(id)
    assert isinstance(waiting, Delivery)
    assert not waiting.interrupted
    assert waiting.not_before == 123.0
    await store.finish(id, "doubtful", problem="no word")
    assert await store.delivery(id) is None
    assert (await store.depths()).outbox == {"doubtful": 1}


async def test_channel_state_is_stored_with_messages(database: OpenDatabase) -> None:
    store = await joined(database)
    added: list[tuple[int, ConversationKey]] = []
    store.on_message = added.extend
    assert await store.state("telegram", "offset") is None
    await store.store_all((message("1"), message("1"), message("2")), "telegram", {"offset": "3"})
    await store.store_all((), "telegram", {"offset": "4"})
    assert await store.state("telegram", "offset") == "4"
    assert await store.state("feishu", "offset") is None
    first, second = [await store.take(seq) for seq, _ in added]
    assert isinstance(first, Task)
    assert first.inbound.event_id == "1"
    assert isinstance(second, Behind)


async def test_used_token_is_stored_until_expired_by_any_clock(database: OpenDatabase, url: str) -> None:
    now = 1000.0
    store = await joined(database, lambda: now)
    assert await store.use_token("a", "request", 1060.0) == "new"
    assert await store.use_token("a", "request", 1060.0) == "same"
    assert await store.use_token("a", "another", 1060.0) == "other"
    assert await store.use_token("b", "another", 1060.0) == "new"
    now = 1300.0
    assert await store.use_token("a", "another", 1060.0) == "other"
    now = 1500.0
    assert await store.use_token("c", "request", 1560.0) == "new"
    assert rows(url, "SELECT token FROM used_tokens") == [("c",)]


async def test_token_used_concurrently_by_two_bots_is_new_once(database: OpenDatabase, url: str) -> None:
    # A file of SQLite is for one bot, with one connection.
    second = open_database(url, PASSWORD) if "postgresql" in url else database
    stores = [await joined(database), Store(second)]
    if second is not database:
        await stores[1].join(2, ("telegram", "feishu"))
    uses = (
        stores[number % 2].use_token(str(number // 20), str(number), time.time() + 60)
        for number in range(400)
    )
    results = list(await asyncio.gather(*uses))
    for start in range(0, 400, 20):
        assert sorted(results[start : start + 20]) == ["new"] + ["other"] * 19
    if second is not database:
        second.close()


async def test_purge_keeps_open_messages_and_current_history(database: OpenDatabase) -> None:
    now = 1000.0
    store = await joined(database, lambda: now)
    for event, reset in (("1", False), ("2", True), ("3", False)):
        await store.store(message(event))
        task = await store.take(int(event))
        assert isinstance(task, Task)
        said = (Turn("user", event),)
        await store.settle(task, Settlement("answered", (reply(task.inbound),), said, begins_anew=reset))
    [(sent, _), *_] = (await store.unfinished()).replies
    await store.finish(sent, "sent", ref="5")
    await store.store(message("open"))
    now = 2000.0
    assert await store.purge(keep=1001.0) == 0
    removed = await store.purge(keep=999.0)
    assert removed == 3 + 1 + 1  # handled messages, the sent reply, the turn before /new
    open_messages, open_replies, _ = await store.unfinished()
    assert len(open_messages) == 1
    assert len(open_replies) == 2
    task = await store.take(open_messages[0][0])
    assert isinstance(task, Task)
    assert [turn.text for turn in await store.recall(task.inbound.conversation)] == ["2", "3"]


async def test_on_message_is_called_for_cancelled_caller(database: OpenDatabase) -> None:
    store = await joined(database)
    added: list[tuple[int, ConversationKey]] = []
    store.on_message = added.extend
    waiting = asyncio.create_task(store.store(message("1")))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await store.store(message("1")) is False
    assert added == [(1, HOME)]


async def test_burst_is_stored_in_order(database: OpenDatabase) -> None:
    store = await joined(database)
    order: list[int] = []
    store.on_message = lambda queued: order.extend(seq for seq, _ in queued)
    await asyncio.gather(*(store.store(message(str(number))) for number in range(1000)))
    assert order == list(range(1, 1001))


async def test_errors_do_not_quote_message_texts(database: OpenDatabase) -> None:
    store = await joined(database)
    await store.store(message("1", text="SECRETWORDS"))
    task = await store.take(1)
    assert isinstance(task, Task)
    same = reply(task.inbound, "SECRETWORDS")
    with pytest.raises(StoreError) as caught:
        await store.settle(task, Settlement("answered", (same, same)))
    assert "SECRETWORDS" not in repr(caught.value) + str(caught.value.__context__)


async def test_recall_is_limited_in_bytes(database: OpenDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "REMEMBERED_BYTES", 700)
    store = await joined(database)
    await store.store(message())
    task = await store.take(1)
    assert isinstance(task, Task)
    said = tuple(Turn(("user", "assistant")[number % 2], f"{number} " + "字" * 100) for number in range(10))
    await store.settle(task, Settlement("answered", turns=said))
    assert await store.recall(HOME) == said[-2:]


async def test_text_of_ignored_messages_is_deleted(database: OpenDatabase, url: str) -> None:
    store = await joined(database)
    dealt_with = (("1", "not_addressed"), ("2", "rate_limited"), ("3", "answered"))
    for event, outcome in dealt_with:
        await store.store(message(event, text=f"words {event}"))
        task = await store.take(int(event))
        assert isinstance(task, Task)
        turns = (Turn("user", task.inbound.text),) if outcome == "answered" else ()
        assert await store.settle(task, Settlement(outcome, turns=turns))
    for event, _ in dealt_with:
        assert not await store.store(message(event, text="again"))
    assert rows(url, "SELECT text FROM inbox ORDER BY seq") == [("",), ("",), ("words 3",)]


async def _talk(store: Store, conversation: ConversationKey, exchanges: int) -> None:
    for number in range(exchanges):
        event = f"{conversation.chat}-{number}"
        await store.store(message(event, conversation=conversation))
        ((seq, _),) = (await store.unfinished())[0]
        task = await store.take(seq)
        assert isinstance(task, Task)
        said = (Turn("user", f"question {number}"), Turn("assistant", f"answer {number}"))
        await store.settle(task, Settlement("answered", turns=said, begins_anew=number == 3))


async def test_unreachable_history_is_deleted(
    database: OpenDatabase, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "REMEMBERED_TURNS", 4)
    store = await joined(database)
    await _talk(store, ConversationKey("telegram", "8"), 2)
    await _talk(store, HOME, 6)
    of_home = "SELECT text FROM turns WHERE chat = '7' ORDER BY id"
    assert rows(url, of_home) == [("question 4",), ("answer 4",), ("question 5",), ("answer 5",)]
    assert len(rows(url, "SELECT text FROM turns WHERE chat = '8'")) == 4


async def test_queries_use_indexes(path: Path) -> None:
    """A week of messages is stored: frequent queries must not scan a whole table."""
    database = open_database(f"sqlite:///{path}")
    asked: list[tuple[str, Any]] = []
    listening = database._backend.engine

    @listens_for(listening, "before_cursor_execute")
    def _note(_connection: Any, _cursor: Any, statement: str, values: Any, *_: Any) -> None:
        asked.append((statement, values))

    store = await joined(database)
    await store.store(message())
    task = await store.take(1)
    assert isinstance(task, Task)
    await store.recall(HOME)
    turns = (Turn("user", "hello"), Turn("assistant", "hi"))
    await store.settle(task, Settlement("answered", (reply(task.inbound),), turns))
    await store.unfinished()
    await store.delivery(1)
    await store.begin_sending(1)
    await store.postpone(1, 0.0, "429")
    await store.finish(1, "sent", ref="5")
    await store.answer_to("telegram", "1")
    await store.adopt()
    await store.depths()
    database.close()
    plans = sqlite3.connect(path)
    whole = re.compile(
        r"SCAN (inbox|outbox|turns|conversations)\b(?! USING (COVERING )?INDEX \w+_(open|failed)$)"
    )
    for statement, values in asked:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            steps = [row[3] for row in plans.execute(f"EXPLAIN QUERY PLAN {statement}", values)]
            assert not any(map(whole.search, steps)), (statement, steps)


async def test_clock_set_back_does_not_rate_limit(database: OpenDatabase) -> None:
    """Messages received at a future time do not count in this minute."""
    one_minute = [RateLimitVerdict.ALLOW, RateLimitVerdict.ALLOW, RateLimitVerdict.EXPLAIN]
    store = await joined(database, limit=2)
    verdicts = []
    for number, received_at in enumerate((8000.0, 8001.0, 8002.0, 8003.0, 4000.0, 4001.0, 4002.0)):
        await store.store(replace(message(str(number)), received_at=received_at))
        task = await store.take(number + 1)
        assert isinstance(task, Task)
        verdicts.append(task.verdict)
        await store.settle(task, Settlement("answered"))
    assert verdicts == [*one_minute, RateLimitVerdict.IGNORE, *one_minute]


async def test_parts_and_quote_are_kept_until_handled(database: OpenDatabase, url: str) -> None:
    parts = (MessagePart("picture"), MessagePart("file", "report\0\ud83d.pdf"))
    quote = Quote("on Friday \ud83d\ude00", (MessagePart("voice"),), "om_1")
    given = replace(message(), parts=parts, quote=quote)

    store = Store(database)
    await store.join(1, ("telegram",))
    await store.store(given)
    await store.store(message("2"))
    task = await store.take(1)
    assert isinstance(task, Task)
    assert task.inbound.parts == (MessagePart("picture"), MessagePart("file", "report\ufffd\ufffd.pdf"))
    assert task.inbound.quote == Quote("on Friday 😀", (MessagePart("voice"),), "om_1")
    await store.settle(task, Settlement("ignored"))
    plain = await store.take(2)
    assert isinstance(plain, Task)
    assert (plain.inbound.parts, plain.inbound.quote) == ((), None)
    assert rows(url, "SELECT text, context FROM inbox WHERE seq = 1") == [("", None)]


async def test_formatting_is_stored_with_a_message(database: OpenDatabase, url: str) -> None:
    store = await joined(database)
    await store.store(message())
    task = await store.take(1)
    assert isinstance(task, Task)
    formatted = replace(reply(task.inbound), formatting='[{"type": "bold"}]')
    await store.settle(task, Settlement("answered", (formatted, reply(task.inbound, part=1, parts=2))))
    for number, formatting in ((1, '[{"type": "bold"}]'), (2, "")):  # the last release stores none
        found = await store.delivery(number)
        assert isinstance(found, Delivery)
        assert found.reply.formatting == formatting
        await store.finish(number, "sent")
    assert rows(url, "SELECT formatting FROM outbox ORDER BY id") == [('[{"type": "bold"}]',), (None,)]


def test_database_of_last_release_is_compatible(url: str) -> None:
    """The last release can open it again afterwards, because the columns are not counted as steps."""
    open_database(url, PASSWORD).close()
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE inbox DROP COLUMN context"))
        connection.execute(text("ALTER TABLE outbox DROP COLUMN formatting"))
    engine.dispose()
    for _ in range(2):
        open_database(url, PASSWORD).close()
    assert rows(url, "SELECT count(context) FROM inbox") == [(0,)]
    assert rows(url, "SELECT count(formatting) FROM outbox") == [(0,)]
