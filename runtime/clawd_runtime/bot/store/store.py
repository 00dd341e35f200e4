"""The store as the rest of the bot uses it: each method is one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

from sqlalchemy import Connection

from clawd_runtime.bot.access.values import (
    AccessChange,
    Guesses,
    PairingRequest,
    Person,
    TokensUsed,
    UsageToday,
    person_of,
)
from clawd_runtime.bot.buckets import Bucket, PacedCall
from clawd_runtime.bot.ports import StoredAnswer, TokenUse
from clawd_runtime.bot.store import access, history, inbox, members, outbox, pace, streams, tokens
from clawd_runtime.bot.store.backends.database import Deposed, OpenDatabase
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.inbox import Answered, Behind, Handled, Task
from clawd_runtime.bot.store.members import Notice
from clawd_runtime.bot.store.outbox import Delivery, DeliveryResult, FinalState
from clawd_runtime.bot.store.streams import StreamRecord
from clawd_runtime.bot.text.commands import STOP, command_of
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply

KEPT_USAGE = timedelta(days=400)
"""For how long the usage of tokens is kept: a year, and the report about it."""
READINESS = "readiness"
"""The name of readiness in the table of the channels' values."""

Queued = tuple[int, ConversationKey]
InboxListener = Callable[[list[Queued]], None]
Interruption = Literal["stop", "edit"]
"""Why the answer to a message is interrupted: its sender does not want it, or has changed the message."""


@dataclass(slots=True)
class _Added:
    """What a transaction has added for this bot."""

    messages: list[Queued] = field(default_factory=list)
    commands: list[Queued] = field(default_factory=list)
    interrupted: list[tuple[int, Interruption]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Settlement:
    """The result of handling a message: the replies, the turns to store, whether a conversation is reset.

    `answered` names the model that has given the answer, `used` its tokens, counted on `day`. `explained` are
    doubtful earlier replies that the replies mention (`Task.doubts`). `change` is one of access.
    """

    outcome: str
    replies: tuple[Reply, ...] = ()
    turns: tuple[Turn, ...] = ()
    begins_anew: bool = False
    answered: Answered | None = None
    explained: tuple[int, ...] = ()
    change: AccessChange | None = None
    used: TokensUsed | None = None
    day: str = ""


class Unfinished(NamedTuple):
    """Work that a bot owns; `commands` are messages that do not wait for the answers before them."""

    messages: list[Queued]
    replies: list[Queued]
    commands: list[Queued]


@dataclass(frozen=True, slots=True)
class StoredAccess:
    """What is stored about someone's access: a grant, the last request, and what they have used today.

    `pending` are the requests of the channel; they and `request` are only read without a grant.
    """

    granted: bool
    usage: UsageToday
    request: PairingRequest | None = None
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Depths:
    """The queue lengths: messages to answer, and messages to send by state."""

    inbox: int
    outbox: Mapping[str, int]


class Store:
    """Inbox, history, outbox and channel state of this bot and of others on the same database.

    A user may send `limit` messages in a minute. `on_message`, `on_command` (those that do not wait for
    answers before them) and `on_reply` are called, after the commit and in order, with the added work of this
    bot, `on_interruption` with its messages that an addition has stopped or changed. The bot
    must `join` first.
    """

    def __init__(
        self, database: OpenDatabase, clock: Callable[[], float] = time.time, *, limit: int = 1_000_000
    ) -> None:
        self._database = database
        self._clock = clock
        self._limit = limit
        self._channels: tuple[str, ...] = ()
        self._leaving = False
        self.joining: frozenset[str] = frozenset()
        """The channels on which messages that follow each other quickly are answered together."""
        self.on_message: InboxListener = lambda queued: None
        self.on_command: InboxListener = lambda queued: self.on_message(queued)
        self.on_interruption: Callable[[int, Interruption], None] = lambda seq, why: None
        self.on_reply: InboxListener = lambda queued: None

    async def store(self, inbound: Inbound) -> bool:
        """See `ports.Inbox`. This bot owns the message: a client may wait here for its answer."""

        def add(connection: Connection) -> tuple[bool, _Added]:
            added = _Added()
            owner = None if self._leaving else self._database.member
            return self._add(connection, inbound, owner, added), added

        new, _ = await self._database.run(add, lambda result: self._announce(result[1]))
        return new

    async def store_all(self, inbounds: Sequence[Inbound], channel: str, state: Mapping[str, str]) -> None:
        """See `ports.Inbox`. Conversations are distributed among the members of the channel."""

        def add(connection: Connection) -> _Added:
            among, added = members.serving(connection, channel), _Added()
            for inbound in inbounds:
                self._add(connection, inbound, members.share_of(inbound.conversation, among), added)
            inbox.set_state(connection, channel, state)
            return added

        await self._database.run(add, self._announce)

    def _add(self, connection: Connection, inbound: Inbound, owner: int | None, added: _Added) -> bool:
        """Add a message or change an open one, and note in `added` what concerns this bot."""
        is_stop = inbound.addressed and command_of(inbound.text) == STOP
        if inbound.edited:
            edited = inbox.edit(connection, inbound, self._limit, self._clock())
            self._interrupt(connection, edited, "edit", added)
            for number, _ in edited if is_stop else ():
                self._interrupt(connection, inbox.stop_before(connection, inbound, number), "stop", added)
            return False
        seq = inbox.add(connection, inbound, owner)
        if seq is None:
            return False
        if is_stop:
            self._interrupt(connection, inbox.stop_before(connection, inbound, seq), "stop", added)
        if owner is None:
            members.send_notice(connection, Notice(0, "orphans"))
        elif owner != self._database.member:
            members.send_notice(connection, Notice(owner, "inbox", seq))
        else:
            found = added.commands if inbox.is_out_of_order(inbound) else added.messages
            found.append((seq, inbound.conversation))
        return True

    def _interrupt(
        self, connection: Connection, rows: list[tuple[int, int | None]], why: Interruption, added: _Added
    ) -> None:
        for seq, owner in rows:
            if owner == self._database.member:
                added.interrupted.append((seq, why))
            elif owner is not None:
                members.send_notice(connection, Notice(owner, why, seq))

    def _announce(self, added: _Added) -> None:
        for seq, why in added.interrupted:
            self.on_interruption(seq, why)
        if added.commands:
            self.on_command(added.commands)
        self.on_message(added.messages)

    async def state(self, channel: str, name: str) -> str | None:
        """See `ports.Inbox`."""
        return await self._database.run(lambda c: inbox.get_state(c, channel, name), kind="read")

    async def set_state(self, channel: str, state: Mapping[str, str]) -> None:
        """Store values under the name of a channel, or of something else."""
        await self._database.run(lambda c: inbox.set_state(c, channel, state))

    async def keep_state(self, channel: str, names: Collection[str]) -> None:
        """Delete all values under the name of a channel but those with these names."""
        await self._database.run(lambda c: inbox.keep_state(c, channel, names))

    async def use_token(self, token: str, request: str, expires_at: float) -> TokenUse:
        """See `ports.Inbox`."""
        now = self._clock()
        return await self._database.run(lambda c: tokens.use(c, token, request, expires_at, now))

    async def answer_to(self, channel: str, event_id: str) -> StoredAnswer | None:
        """See `ports.Inbox`."""

        def find(connection: Connection) -> StoredAnswer | None:
            if inbox.outcome(connection, channel, event_id) is None:
                return None
            return StoredAnswer(outbox.answer(connection, channel, event_id))

        return await self._database.run(find, kind="read")

    async def leads(self, role: str) -> bool:
        """See `ports.Inbox`."""
        if self._leaving:
            return False
        held_by = await self._database.run(lambda c: members.leader(c, role), kind="read")
        if held_by is not None:
            return held_by == self._database.member
        return await self._database.run(lambda c: members.take_role(c, self._database.member, role))

    async def join(self, member: int, channels: Iterable[str]) -> None:
        """Join as this member for these channels, and adopt everything without an owner."""
        self._channels = tuple(channels)
        now = self._clock()
        await self._database.join(member, lambda c: members.join(c, member, self._channels, now))

    async def adopt(self) -> int:
        """Make this bot the owner of everything without one, and return how much it was."""
        if self._leaving or not await self._database.run(
            lambda c: members.has_orphans(c, self._channels), kind="read"
        ):
            return 0
        return await self._database.run(lambda c: members.adopt(c, self._database.member, self._channels))

    async def bury(self, member: int) -> bool:
        """Evict a member whose presence has ended and adopt its work; return False if it is alive."""

        def take_over(connection: Connection) -> bool:
            if not members.is_gone(connection, member):
                return False
            members.remove(connection, member)
            if not self._leaving:
                members.adopt(connection, self._database.member, self._channels)
            return True

        return await self._database.run(take_over)

    async def begin_leaving(self, keep: Iterable[int]) -> None:
        """Release the messages that are not in `keep`, and have no new ones assigned."""
        self._leaving = True
        kept = tuple(keep)
        await self._database.run(lambda c: members.begin_leaving(c, self._database.member, kept))

    async def leave(self) -> None:
        """Leave; unfinished work is left to the other members or the next run."""
        await self._database.run(lambda c: members.remove(c, self._database.member))

    async def unfinished(self) -> Unfinished:
        """Return the messages to answer and the messages to send that this bot owns."""

        def find(connection: Connection) -> Unfinished:
            me = self._database.member
            messages, commands = inbox.open_messages(connection, me)
            return Unfinished(messages, outbox.open_deliveries(connection, me), commands)

        return await self._database.run(find, kind="read")

    async def take(self, seq: int) -> Task | Behind | None:
        """Return a message to handle; None if it is handled or belongs to another bot."""

        def take(connection: Connection) -> Task | Behind | None:
            task = inbox.take(connection, seq, self._database.member, self._limit)
            if not isinstance(task, Task):
                return task
            inbound = task.inbound
            if inbound.channel in self.joining:
                task = inbox.join(connection, task, self._limit)
            stream = streams.find(connection, inbound.channel, inbound.event_id) if task.repeated else None
            return replace(task, stream=stream, doubts=outbox.unexplained(connection, inbound.conversation))

        return await self._database.run(take)

    async def record_stream(self, task: Task, stream: StreamRecord) -> bool:
        """Record where the answer to a message is shown; return False if it no longer belongs to `task`."""
        now, inbound = self._clock(), task.inbound

        def record(connection: Connection) -> bool:
            if not inbox.is_held(connection, task):
                return False
            streams.put(connection, inbound.channel, inbound.event_id, stream, now)
            return True

        return await self._database.run(record)

    async def begin_attempt(self, task: Task) -> bool:
        """Count an attempt to have a model answer the message; return False if it was changed or stopped."""
        return await self._database.run(lambda c: inbox.begin_attempt(c, task))

    async def withdraw_attempts(self, seqs: Sequence[int]) -> None:
        """Count one attempt less at messages that are left to other bots or the next run."""
        if seqs:
            await self._database.run(lambda c: inbox.withdraw_attempts(c, self._database.member, seqs))

    async def recall(self, conversation: ConversationKey) -> tuple[Turn, ...]:
        """Return the newest turns of a conversation, oldest first."""
        return await self._database.run(lambda c: history.recall(c, conversation), kind="read")

    async def settle(self, task: Task, settlement: Settlement) -> bool:
        """Record the result of a message in one transaction; return False if it no longer belongs to `task`.

        The text of a message that is not stored in the history (ignored, over the rate limit) is deleted.
        """
        now = self._clock()
        conversation = task.inbound.conversation

        def record(connection: Connection) -> list[Queued] | None:
            handled = Handled(settlement.outcome, settlement.answered, keep_text=bool(settlement.turns))
            if not inbox.settle(connection, task, handled, now):
                return None
            if task.joined:
                inbox.settle_joined(connection, task.joined, now, keep_text=handled.keep_text)
            if settlement.begins_anew:
                history.begin_anew(connection, conversation)
            history.append(connection, conversation, settlement.turns, now)
            outbox.explain(connection, settlement.explained)
            if settlement.change is not None:
                access.apply(connection, settlement.change)
            if settlement.used is not None:
                access.add_usage(connection, settlement.day, person_of(task.inbound), settlement.used)
            members.notify_next(connection, inbox.table, conversation, task.member)
            return outbox.add(connection, settlement.replies, self._database.member, now)

        return await self._database.run(record, lambda q: self.on_reply(q or [])) is not None

    async def access_state(self, person: Person, day: str, *, with_models: bool) -> StoredAccess:
        """Return what decides about a message of `person`."""
        channel, now = person.conversation.channel, self._clock()

        def read(connection: Connection) -> StoredAccess:
            usage = access.usage_today(connection, day, person, with_models=with_models)
            if access.is_granted(connection, channel, person.user):
                return StoredAccess(True, usage)
            request = access.request_of(connection, channel, person.user)
            return StoredAccess(False, usage, request, access.pending(connection, channel, now))

        return await self._database.run(read, kind="read")

    async def pairing(self, person: Person, digest: str) -> tuple[Guesses, PairingRequest | None]:
        """Return the wrong codes of an administrator, and the request whose code has this digest."""

        def read(connection: Connection) -> tuple[Guesses, PairingRequest | None]:
            guesses = access.guesses_of(connection, person.conversation.channel, person.user)
            return guesses, access.request_with(connection, digest)

        return await self._database.run(read, kind="read")

    async def is_granted(self, channel: str, user: str) -> bool:
        """Return whether an administrator has granted access to a person."""
        return await self._database.run(lambda c: access.is_granted(c, channel, user), kind="read")

    async def take_tokens(self, channel: str, calls: Sequence[PacedCall]) -> list[float]:
        """Give tokens to calls of a platform in this order; return the seconds that each must still wait."""
        now = self._clock()
        return await self._database.run(lambda c: pace.take_tokens(c, channel, calls, now))

    async def refuse_calls(self, channel: str, buckets: Sequence[Bucket], until: float) -> None:
        """Record that a platform refuses calls until this time, for all bots."""
        now = self._clock()
        await self._database.run(lambda c: pace.refuse(c, channel, buckets, until, now))

    async def delivery(self, id: int) -> Delivery | Behind | None:
        """Return a message to send; None if it is finished or belongs to another bot."""
        return await self._database.run(lambda c: outbox.delivery(c, id, self._database.member), kind="read")

    async def begin_sending(self, id: int) -> bool:
        """Record an attempt before it is made; return False if the message now belongs to another bot."""
        now = self._clock()
        return await self._database.run(lambda c: outbox.begin(c, id, self._database.member, now))

    async def postpone(self, id: int, until: float, problem: str, *, in_doubt: bool = False) -> None:
        """Record a failed attempt; the next one is due at `until`. `in_doubt`: one may have arrived."""
        await self._database.run(
            lambda c: outbox.postpone(c, id, self._database.member, until, problem, in_doubt=in_doubt)
        )

    async def lose_stream(self, id: int) -> None:
        """Record that a message cannot be completed where it was shown, to send it as a new one."""
        await self._database.run(lambda c: outbox.lose_stream(c, id, self._database.member))

    async def finish(
        self, id: int, state: FinalState, *, ref: str | None = None, problem: str | None = None
    ) -> None:
        """Record the final state of a message: sent or given up."""
        now, result = self._clock(), DeliveryResult(state, ref, problem)
        await self._database.run(lambda c: outbox.finish(c, id, self._database.member, result, now))

    async def depths(self) -> Depths:
        """Return the queue lengths of all bots on the database together."""
        return await self._database.run(lambda c: Depths(inbox.depth(c), outbox.depths(c)), kind="read")

    async def purge(self, keep: float) -> int:
        """Delete rows finished more than `keep` seconds ago, and return how many."""
        before = self._clock() - keep
        purges = (inbox.purge, outbox.purge, history.purge, streams.purge, pace.purge)
        now = self._clock()
        oldest = (datetime.fromtimestamp(now, UTC) - KEPT_USAGE).date().isoformat()

        def purge_all(connection: Connection) -> int:
            deleted = access.purge(connection, now, oldest)
            return deleted + sum(purge(connection, before) for purge in purges)

        return await self._database.run(purge_all)

    async def heartbeat(self) -> None:
        """Write a value; raise `StoreError` if the database cannot store a message, `Deposed` if evicted.

        It is committed, because a transaction that is rolled back may never reach the disk.
        """
        written = {"heartbeat": str(self._clock())}

        def write(connection: Connection) -> None:
            inbox.set_state(connection, READINESS, written)
            self._database.check_space(connection)

        await self._database.run(write)

    async def ping(self) -> None:
        """Raise `StoreError` if the database does not respond, or this bot was evicted."""

        def check(connection: Connection) -> None:
            if not members.is_listed(connection, self._database.member):
                raise Deposed("this bot was evicted: another one has taken over its work")

        await self._database.run(check, kind="read")
