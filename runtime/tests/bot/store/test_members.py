"""Several stores on one PostgreSQL, each like that of a separate bot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clawd_runtime.bot.handling.rate_limit import RateLimitVerdict
from clawd_runtime.bot.store.backends.database import Deposed, OpenDatabase, open_database
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.inbox import Behind, Task
from clawd_runtime.bot.store.members import Notice, Presence, share_of
from clawd_runtime.bot.store.store import Settlement, Store
from clawd_runtime.bot.values import ConversationKey
from clawd_runtime.errors import StoreError
from tests.bot.postgres import PASSWORD, Server
from tests.bot.store.test_store import HOME, message, reply

CHANNELS = ("telegram", "feishu")


class Bot:
    """A store with a presence, like in `cluster`."""

    def __init__(self, database: OpenDatabase, store: Store, presence: Presence, number: int) -> None:
        self.database = database
        self.store = store
        self.presence = presence
        self.number = number

    async def heard(self, notice: Notice) -> None:
        """Wait until this notice arrives; others may arrive before."""
        async with asyncio.timeout(5.0):
            while notice not in await self.presence.notices(1.0):
                pass

    async def taken(self) -> Task:
        """Take the oldest message that this bot owns."""
        (seq, _), *_ = (await self.store.unfinished())[0]
        task = await self.store.take(seq)
        assert isinstance(task, Task)
        return task


@asynccontextmanager
async def bots(server: Server, count: int, **more: Any) -> AsyncIterator[list[Bot]]:
    url, made = server.new_database(), []
    try:
        for database in await asyncio.gather(
            *(asyncio.to_thread(open_database, url, PASSWORD) for _ in range(count))
        ):
            assert database.presence is not None
            presence, store = await database.presence(), Store(database, **more)
            number = await presence.new_number()
            await store.join(number, CHANNELS)
            made.append(Bot(database, store, presence, number))
        yield made
    finally:
        for bot in made:
            await bot.presence.close()
            await asyncio.to_thread(bot.database.close)


async def test_same_event_at_two_bots_is_stored_once(postgres: Server) -> None:
    async with bots(postgres, 2) as (one, other):
        for event in map(str, range(50)):
            new = await asyncio.gather(*(bot.store.store(message(event)) for bot in (one, other)))
            assert sorted(new) == [False, True]
        owned = [(await bot.store.unfinished())[0] for bot in (one, other)]
        assert len(owned[0]) + len(owned[1]) == 50


async def test_concurrent_migrations_succeed(postgres: Server) -> None:
    async with bots(postgres, 5) as made:
        assert len({bot.number for bot in made}) == 5


async def test_conversation_moves_between_bots_in_order(postgres: Server) -> None:
    async with bots(postgres, 2) as (one, other):
        for event, bot in (("1", one), ("2", other), ("3", one)):
            await bot.store.store(message(event))
        first = await one.taken()
        ((second, _),) = (await other.store.unfinished())[0]
        assert isinstance(await other.store.take(second), Behind)
        await one.store.settle(first, Settlement("answered", (reply(first.inbound),), (Turn("user", "a"),)))
        await other.heard(Notice(other.number, "inbox", second))
        task = await other.taken()
        assert await other.store.recall(HOME) == (Turn("user", "a"),)
        await other.store.settle(task, Settlement("command", (reply(task.inbound),), begins_anew=True))
        assert await one.store.recall(HOME) == ()
        # The second answer waits until the first one is sent.
        ((earlier, _),) = (await one.store.unfinished()).replies
        ((later, _),) = (await other.store.unfinished()).replies
        assert isinstance(await other.store.delivery(later), Behind)
        assert await one.store.begin_sending(earlier)
        await one.store.finish(earlier, "sent", ref="1")
        await other.heard(Notice(other.number, "outbox", later))
        assert not isinstance(await other.store.delivery(later), Behind)


async def _dead(bot: Bot) -> None:
    await bot.presence.close()
    await asyncio.sleep(0.1)


async def test_evicted_bot_changes_nothing(postgres: Server) -> None:
    async with bots(postgres, 2) as (one, other):
        await one.store.store(message("1"))
        task = await one.taken()
        assert not await other.store.bury(one.number)
        assert await other.presence.census(other.number) is not None
        await _dead(one)
        census = await other.presence.census(other.number)
        assert census.gone == {one.number}
        assert await other.store.bury(one.number)
        for attempt in (
            one.store.settle(task, Settlement("answered", (reply(task.inbound),))),
            one.store.store(message("2")),
            one.store.begin_sending(1),
            one.store.ping(),
        ):
            with pytest.raises(Deposed):
                await attempt
        inherited = await other.taken()
        assert inherited.seq == task.seq
        assert await other.store.settle(inherited, Settlement("answered", (reply(task.inbound),)))
        # Under a new number it may continue, but not with work taken under the old one.
        assert one.database.presence is not None
        one.presence = await one.database.presence()
        await one.store.join(await one.presence.new_number(), CHANNELS)
        assert not await one.store.settle(task, Settlement("answered", (reply(task.inbound),)))
        assert await one.store.unfinished() == ([], [], [])


async def test_interrupted_send_is_doubtful_until_confirmed(postgres: Server) -> None:
    async with bots(postgres, 2) as (one, other):
        await one.store.store(message("1"))
        task = await one.taken()
        await one.store.settle(task, Settlement("answered", (reply(task.inbound),)))
        ((id, _),) = (await one.store.unfinished()).replies
        assert await one.store.begin_sending(id)
        await _dead(one)
        await other.store.bury(one.number)
        inherited = await other.store.delivery(id)
        assert not isinstance(inherited, Behind)
        assert inherited is not None
        assert inherited.interrupted
        await other.store.finish(id, "doubtful", problem="no word")
        assert one.database.presence is not None
        one.presence = await one.database.presence()
        await one.store.join(await one.presence.new_number(), CHANNELS)
        await one.store.postpone(id, 0.0, "429")
        assert (await other.store.depths()).outbox == {"doubtful": 1}
        await one.store.finish(id, "sent", ref="1")  # the evicted bot was alive and has sent it
        assert (await other.store.depths()).outbox == {}


async def test_leaving_bot_releases_unstarted_messages(postgres: Server) -> None:
    async with bots(postgres, 2) as (one, other):
        for event in "123":
            await one.store.store(message(event, conversation=ConversationKey("telegram", event)))
        task = await one.taken()
        assert await one.store.leads("telegram")
        assert not await other.store.leads("telegram")
        await one.store.begin_leaving({task.seq})
        await other.heard(Notice(0, "orphans"))
        assert await other.store.leads("telegram")
        assert not await one.store.leads("telegram")
        assert await other.store.adopt() == 2
        assert await one.store.adopt() == 0
        await one.store.store(message("4"))
        assert len((await one.store.unfinished())[0]) == 1
        await one.store.leave()
        assert await other.store.adopt() == 2
        assert len((await other.store.unfinished())[0]) == 4


async def test_bot_adopts_only_its_channels(postgres: Server) -> None:
    async with bots(postgres, 2) as (one, other):
        await one.store.store(message("1", conversation=ConversationKey("console", "7")))
        await _dead(one)
        assert await other.store.bury(one.number)
        assert await other.store.unfinished() == ([], [], [])
        assert await other.store.adopt() == 0


async def test_polled_messages_are_distributed(postgres: Server) -> None:
    async with bots(postgres, 3) as made:
        many = [message(str(n), conversation=ConversationKey("telegram", str(n % 30))) for n in range(90)]
        await made[0].store.store_all(many, "telegram", {"offset": "90"})
        shares = [(await bot.store.unfinished())[0] for bot in made]
        assert sum(map(len, shares)) == 90
        assert all(len(share) >= 9 for share in shares)
        conversations = [{conversation for _, conversation in share} for share in shares]
        assert sum(map(len, conversations)) == 30
        assert {notice.to for notice in await made[1].presence.notices(2.0)} <= {b.number for b in made[1:]}


def test_no_share_without_members() -> None:
    assert share_of(HOME, ()) is None
    assert share_of(HOME, (7,)) == 7


async def test_rate_limit_is_shared(postgres: Server) -> None:
    verdicts = []
    async with bots(postgres, 2, limit=3) as made:
        for number in range(6):
            bot = made[number % 2]
            await bot.store.store(message(str(number)))
            task = await bot.taken()
            verdicts.append(task.verdict)
            again = await bot.taken()  # taken twice, judged once
            assert again.verdict == task.verdict
            await bot.store.settle(task, Settlement("answered"))
    assert (
        verdicts == [RateLimitVerdict.ALLOW] * 3 + [RateLimitVerdict.EXPLAIN] + [RateLimitVerdict.IGNORE] * 2
    )


async def test_broken_idle_connection_is_reopened(postgres: Server) -> None:
    async with bots(postgres, 1) as (bot,):
        await bot.store.store(message("1"))
        with postgres.connect("postgres") as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'clawd' "
                "AND pid <> pg_backend_pid()"
            )
        assert await bot.store.store(message("2"))
        with pytest.raises(StoreError):
            await bot.presence.census(bot.number)


async def test_bot_suspended_in_transaction_does_not_block_others(postgres: Server) -> None:
    import threading

    go_on = threading.Event()

    async with bots(postgres, 2) as (one, other):
        still = asyncio.create_task(one.database.run(lambda c: go_on.wait(20.0)))
        await asyncio.sleep(0.2)
        assert await asyncio.wait_for(other.store.store(message("1")), 9.0)
        go_on.set()
        with pytest.raises(StoreError):
            await still


@pytest.mark.parametrize("words", ["", "7", "7 inbox", "x inbox 1", "7 nonsense 1", "7 inbox 1 more"])
def test_notice_of_newer_release_is_ignored(words: str) -> None:
    assert Notice.read(words) is None


def test_notice_round_trip() -> None:
    notice = Notice(7, "outbox", 12)
    assert Notice.read(str(notice)) == notice
