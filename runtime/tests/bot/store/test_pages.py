"""What the page stores, on a real SQLite file and a real PostgreSQL."""

from __future__ import annotations

import pytest
from sqlalchemy import create_engine, make_url, text

from clawd_runtime.bot.ports import ConversationSummary, OpenQuestion
from clawd_runtime.bot.store.backends.database import OpenDatabase
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.inbox import Task
from clawd_runtime.bot.store.pages import StoredPages
from clawd_runtime.bot.store.store import Settlement, Store
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply, reply_key
from tests.bot.postgres import PASSWORD


def question(event: str, thread: str, text: str = "hello", user: str = "ada") -> Inbound:
    return Inbound(
        event_id=event,
        message_id=event,
        conversation=ConversationKey("console", user, thread),
        chat_kind="private",
        user=user,
        text=text,
        addressed=True,
        reply_to="",
        received_at=1000.0,
    )


class Desk:
    """A store with questions of the console, and what the page sees of it."""

    def __init__(self, database: OpenDatabase) -> None:
        self.now = 1000.0
        self.store = Store(database, lambda: self.now)
        self.pages = StoredPages(database, lambda: self.now)
        self.seqs: list[int] = []
        self.store.on_message = lambda queued: self.seqs.extend(seq for seq, _ in queued)

    async def answer(self, inbound: Inbound, *, begins_anew: bool = False) -> None:
        await self.store.store(inbound)
        task = await self.store.take(self.seqs.pop())
        assert isinstance(task, Task)
        key = reply_key("console", inbound.event_id, 0)
        reply = Reply(key, inbound.event_id, inbound.conversation, "private", "", f"re: {inbound.text}")
        turns = () if begins_anew else (Turn("user", inbound.text), Turn("assistant", reply.text))
        await self.store.settle(task, Settlement("answered", (reply,), turns, begins_anew))


@pytest.fixture
async def desk(database: OpenDatabase) -> Desk:
    made = Desk(database)
    await made.store.join(1, ("console", "telegram"))
    return made


async def test_session_ends_when_it_expires_or_is_ended(desk: Desk) -> None:
    await desk.pages.begin_session("s1", "ada", 1060.0)
    await desk.pages.begin_session("s2", "ada", 1090.0)
    assert await desk.pages.user_of("s1") == "ada"
    assert await desk.pages.user_of("unknown") is None
    await desk.pages.end_session("s2")
    assert await desk.pages.user_of("s2") is None
    desk.now = 1061.0
    assert await desk.pages.user_of("s1") is None


async def test_oldest_sessions_of_a_user_end(desk: Desk) -> None:
    await desk.pages.begin_session("other", "bob", 1500.0)
    for number in range(25):
        await desk.pages.begin_session(f"s{number}", "ada", 2000.0 + number)
    left = [number for number in range(25) if await desk.pages.user_of(f"s{number}") == "ada"]
    assert left == list(range(5, 25))
    assert await desk.pages.user_of("other") == "bob"


async def test_overview_has_conversations_of_one_user_newest_first(desk: Desk) -> None:
    for event, thread, user in (("1", "a", "ada"), ("2", "b", "ada"), ("3", "a", "ada"), ("4", "c", "bob")):
        await desk.answer(question(event, thread, f"question {event}", user))
    assert await desk.pages.rename("ada", "b", "old title")
    assert await desk.pages.rename("ada", "b", "title")
    assert await desk.pages.rename("bob", "c", "of bob")
    await desk.store.store(question("5", "new", "open question"))
    overview = await desk.pages.overview("ada")
    assert overview.conversations == (
        ConversationSummary("a", "", "question 1"),
        ConversationSummary("b", "title", "question 2"),
    )
    assert overview.open == (OpenQuestion("new", "5", "open question"),)


async def test_only_conversations_of_the_user_are_renamed(desk: Desk) -> None:
    await desk.answer(question("1", "a"))
    await desk.store.store(question("2", "open"))
    assert await desk.pages.rename("ada", "open", "title")
    assert not await desk.pages.rename("ada", "unknown", "title")
    assert not await desk.pages.rename("bob", "a", "title")


async def test_conversation_that_began_anew_begins_with_its_first_new_question(desk: Desk) -> None:
    await desk.answer(question("1", "a", "before"))
    await desk.answer(question("2", "a", "/new"), begins_anew=True)
    assert (await desk.pages.overview("ada")).conversations == ()
    await desk.answer(question("3", "a", "after"))
    assert (await desk.pages.overview("ada")).conversations == (ConversationSummary("a", "", "after"),)
    assert list(await desk.pages.turns("ada", "a")) == [("user", "after"), ("assistant", "re: after")]


async def test_forgotten_conversation_leaves_no_text_in_any_table(desk: Desk, url: str) -> None:
    await desk.answer(question("1", "a", "bluebird"))
    await desk.answer(question("2", "kept", "swallow"))
    await desk.pages.rename("ada", "a", "bluebird title")
    assert await desk.pages.forget("ada", "a")
    stored = everything(url)
    assert "swallow" in stored
    assert "bluebird" not in stored
    assert [found.thread for found in (await desk.pages.overview("ada")).conversations] == ["kept"]


async def test_conversation_with_an_open_question_is_not_forgotten(desk: Desk) -> None:
    await desk.answer(question("1", "a"))
    await desk.store.store(question("2", "a", "open"))
    assert not await desk.pages.forget("ada", "a")
    assert len(await desk.pages.turns("ada", "a")) == 2


def everything(url: str) -> str:
    """Return the content of all tables of a database."""
    place = make_url(url)
    engine = create_engine(place.set(password=PASSWORD) if "postgresql" in url else place)
    found = []
    with engine.connect() as connection:
        for table in ("inbox", "outbox", "turns", "page_titles", "conversations"):
            found += [str(tuple(row)) for row in connection.execute(text(f"SELECT * FROM {table}"))]
    engine.dispose()
    return "\n".join(found)
