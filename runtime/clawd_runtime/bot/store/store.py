"""The store as the rest of the bot sees it: each method is one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from clawd_runtime.bot.channels.base import Answer
from clawd_runtime.bot.store import history, inbox, outbox
from clawd_runtime.bot.store.database import Database
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.outbox import Delivery, FinalState
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply

Queued = tuple[int, ConversationKey]
Listener = Callable[[list[Queued]], None]


@dataclass(frozen=True, slots=True)
class Task:
    """A message to deal with."""

    seq: int
    inbound: Inbound


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a message is dealt with: what is sent, what is remembered, whether a new conversation begins."""

    outcome: str
    replies: tuple[Reply, ...] = ()
    turns: tuple[Turn, ...] = ()
    begins_anew: bool = False


@dataclass(frozen=True, slots=True)
class Depths:
    """How much waits: messages to answer, and messages to send by state."""

    inbox: int
    outbox: Mapping[str, int]


class Store:
    """Inbox, history, outbox and channel state.

    `on_message` and `on_reply` are told, after the commit and in order, what was added.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self.on_message: Listener = lambda queued: None
        self.on_reply: Listener = lambda queued: None

    async def store(self, inbound: Inbound) -> bool:
        """See `channels.base.Inbox`."""
        added = await self._database.run(lambda c: inbox.add_all(c, (inbound,)), lambda q: self.on_message(q))
        return bool(added)

    async def store_all(self, inbounds: Sequence[Inbound], channel: str, state: Mapping[str, str]) -> None:
        """See `channels.base.Inbox`."""

        def add(connection: Connection) -> list[Queued]:
            added = inbox.add_all(connection, inbounds)
            inbox.set_state(connection, channel, state)
            return added

        await self._database.run(add, lambda q: self.on_message(q))

    async def state(self, channel: str, name: str) -> str | None:
        """See `channels.base.Inbox`."""
        return await self._database.run(lambda c: inbox.get_state(c, channel, name))

    async def answer_to(self, channel: str, event_id: str) -> Answer | None:
        """See `channels.base.Inbox`."""

        def find(connection: Connection) -> Answer | None:
            if inbox.outcome(connection, channel, event_id) is None:
                return None
            return Answer(outbox.answer(connection, channel, event_id))

        return await self._database.run(find)

    async def unfinished(self) -> tuple[list[Queued], list[Queued]]:
        """What an earlier run left: messages to answer, messages to send."""
        return await self._database.run(lambda c: (inbox.open_messages(c), outbox.open_deliveries(c)))

    async def task(self, seq: int) -> Task | None:
        """A message to deal with; None when that has been done."""

        def load(connection: Connection) -> Task | None:
            found = inbox.message(connection, seq)
            return Task(seq, found) if found else None

        return await self._database.run(load)

    async def recall(self, conversation: ConversationKey) -> tuple[Turn, ...]:
        """What was said in a conversation, oldest first; of a long one the newest part."""
        return await self._database.run(lambda c: history.recall(c, conversation))

    async def settle(self, task: Task, settlement: Settlement) -> bool:
        """Record how a message is dealt with, all or nothing. False when that had been done before.

        The words of a message that is not remembered (ignored, over the rate limit) are not kept either.
        """
        now = self._clock()
        conversation = task.inbound.conversation

        def record(connection: Connection) -> list[Queued] | None:
            if not inbox.settle(
                connection, task.seq, settlement.outcome, now, keep_text=bool(settlement.turns)
            ):
                return None
            if settlement.begins_anew:
                history.begin_anew(connection, conversation)
            history.append(connection, conversation, settlement.turns, now)
            return outbox.add(connection, settlement.replies, now)

        return await self._database.run(record, lambda q: self.on_reply(q or [])) is not None

    async def delivery(self, id: int) -> Delivery | None:
        """A message to send; None when it is finished."""
        return await self._database.run(lambda c: outbox.delivery(c, id))

    async def begin_sending(self, id: int) -> None:
        """To be called before anything of an attempt leaves."""
        now = self._clock()
        await self._database.run(lambda c: outbox.begin(c, id, now))

    async def postpone(self, id: int, until: float, problem: str) -> None:
        """The attempt failed; the next one comes not before `until`."""
        await self._database.run(lambda c: outbox.postpone(c, id, until, problem))

    async def finish(
        self, id: int, state: FinalState, *, ref: str | None = None, problem: str | None = None
    ) -> None:
        """A message has been sent, or given up."""
        now = self._clock()
        await self._database.run(lambda c: outbox.finish(c, id, state, now, ref=ref, problem=problem))

    async def depths(self) -> Depths:
        """How much waits."""
        return await self._database.run(lambda c: Depths(inbox.depth(c), outbox.depths(c)))

    async def purge(self, keep: float) -> int:
        """Forget what was finished more than `keep` seconds ago; the number of rows."""
        before = self._clock() - keep
        purges = (inbox.purge, outbox.purge, history.purge)
        return await self._database.run(lambda c: sum(purge(c, before) for purge in purges))

    async def ping(self) -> None:
        """Raises `StoreError` when the database does not answer."""
        await self._database.run(lambda c: c.execute(text("SELECT 1")).scalar())
