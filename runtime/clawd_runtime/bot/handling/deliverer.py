"""Delivery of the outbox to the platforms: in order within a conversation, with retries."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping

from clawd_runtime.bot.buckets import Bucket, Urgency
from clawd_runtime.bot.channels.base import (
    Channel,
    PacedKind,
    RateLimited,
    RetryLater,
    StreamGone,
    Undeliverable,
)
from clawd_runtime.bot.handling.backoff import backoff
from clawd_runtime.bot.handling.keyed_queue import LaneRunner
from clawd_runtime.bot.handling.pacing import Pacing
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.store.inbox import Behind
from clawd_runtime.bot.store.outbox import Delivery, FinalState
from clawd_runtime.bot.store.store import Queued, Store
from clawd_runtime.bot.values import ConversationKey, Reply
from clawd_runtime.errors import StoreError, StoreRefused

log = logging.getLogger(__name__)

# Per channel: while one platform is slow to refuse, the answers to the others are sent.
SENT_AT_ONCE = 64
# Conversations whose next message waits for its turn at the platform.
WAITING_AT_ONCE = 1024
SEND_SECONDS = 60.0
GIVE_UP_AFTER = 24 * 3600.0
RECORD_AGAIN_AFTER = 5.0
MOST_REFUSALS = 3
# Another bot is sending to the conversation, and sends a notice when it has finished; if the notice is lost:
LOOK_AGAIN_AFTER = 2.0
STOOD_STILL = 8.0
IDEMPOTENCY_MARGIN = 120.0


def may_repeat(delivery: Delivery, idempotent_for: float, now: float) -> bool:
    """Return whether a message that may have arrived can be sent again.

    Completing one that is already shown has the same effect every time, and is given up like all attempts;
    else the platform must still recognise the repetition.
    """
    shown = delivery.reply.shown is not None
    repeatable_for = GIVE_UP_AFTER if shown else idempotent_for - IDEMPOTENCY_MARGIN
    return now < _started_at(delivery, now) + repeatable_for


def _started_at(delivery: Delivery, now: float) -> float:
    """Return when the first attempt was made, or `now` before it.

    The time that the message waited before does not count: its host may have been off for days.
    """
    return delivery.first_attempt_at if delivery.first_attempt_at is not None else now


class Deliverer:
    """Sends queued messages; start with those that `Store.unfinished` returns."""

    def __init__(
        self,
        store: Store,
        channels: Mapping[str, Channel],
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
        pacing: Pacing | None = None,
    ) -> None:
        self._store = store
        self._channels = channels
        self._metrics = metrics
        self._clock = clock
        self._runners: dict[str, LaneRunner[ConversationKey]] = {
            name: LaneRunner(self._handle, WAITING_AT_ONCE) for name in channels
        }
        self._pacing = pacing or Pacing(store, clock)
        self._sending = {name: asyncio.Semaphore(SENT_AT_ONCE) for name in channels}
        # Possibly recorded as started, but not sent: the database failed before it had answered.
        self._never_left: set[int] = set()
        # When the messages that this run has postponed are due, by the monotonic clock.
        self._due: dict[int, float] = {}

    def add(self, queued: list[Queued]) -> None:
        """Queue these messages for sending. Those of a channel that is not configured stay stored."""
        for id, conversation in queued:
            if conversation.channel in self._runners:
                self._runners[conversation.channel].put(conversation, id)

    def wake(self, id: int) -> bool:
        """Check a message again that waited for another bot; return False if it is not queued here."""
        return any(runner.wake(id) for runner in self._runners.values())

    def wake_all(self) -> None:
        """Check all messages again that wait for a retry, when the database is back."""
        for runner in self._runners.values():
            runner.wake_all()

    async def stop(self, grace: float) -> None:
        """Start no other attempt; one that does not end within `grace` seconds is doubtful."""
        await asyncio.gather(*(runner.stop(grace) for runner in self._runners.values()))

    async def _handle(self, id: int) -> float | None:
        """Make one attempt; return the seconds until the next one, None if there is none."""
        try:
            return await self._attempt_if_due(id)
        except StoreError:
            self._metrics.store_fault()
            raise

    async def _attempt_if_due(self, id: int) -> float | None:
        delivery = await self._store.delivery(id)
        match delivery:
            case None:
                self._never_left.discard(id)
                self._due.pop(id, None)
                return None
            case Behind():
                return LOOK_AGAIN_AFTER
        now = self._clock()
        if (left := self._seconds_until_due(delivery, now)) > 0:
            return left
        channel = self._channels[delivery.reply.conversation.channel]
        in_doubt = delivery.interrupted and id not in self._never_left
        if in_doubt and not may_repeat(delivery, channel.idempotent_for, now):
            return await self._finish(delivery, "doubtful", problem="the bot stopped while sending")
        reply = delivery.reply
        await self._pacing.turn(channel.name, _buckets(channel, reply), Urgency.REPLY)
        async with self._sending[channel.name]:
            return await self._begin(delivery, channel, in_doubt=in_doubt)

    async def _begin(self, delivery: Delivery, channel: Channel, *, in_doubt: bool) -> float | None:
        """Record an attempt, and make it."""
        id, now = delivery.id, self._clock()
        try:
            started = await self._store.begin_sending(id)
        except StoreError:
            if not in_doubt:
                self._never_left.add(id)
            raise
        if started and self._clock() - now > STOOD_STILL:
            # This bot may have been evicted in the meantime, and another bot have sent the next answer.
            if not in_doubt:
                self._never_left.add(id)
            return 0.0
        self._never_left.discard(id)
        return await self._attempt(delivery, channel, in_doubt=in_doubt) if started else 0.0

    def _seconds_until_due(self, delivery: Delivery, now: float) -> float:
        """Return the seconds until the next attempt, 0 for the first one.

        For a message that this run has postponed, the monotonic clock counts: the time of day may have been
        set back by hours.
        """
        if delivery.reply.attempt == 1:
            return 0.0
        due = self._due.get(delivery.id)
        return delivery.not_before - now if due is None else due - asyncio.get_running_loop().time()

    async def _attempt(self, delivery: Delivery, channel: Channel, *, in_doubt: bool) -> float | None:
        """Make an attempt. `in_doubt`: an earlier one may have arrived, even if this one is refused."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                sent = await channel.send(delivery.reply)
        except RetryLater as delay:
            if isinstance(delay, RateLimited):
                buckets = _buckets(channel, delivery.reply, whole=delay.whole)
                await self._pacing.refused(channel.name, buckets, delay.after or 1.0)
            if self._clock() > _started_at(delivery, self._clock()) + GIVE_UP_AFTER:
                return await self._finish(delivery, "dead", problem=f"given up: {delay}")
            return await self._postpone(delivery, delay.after, str(delay), in_doubt=in_doubt)
        except StreamGone as loss:
            log.info("%s: %s; sending a new message", _name(delivery), loss)
            await _recorded(lambda: self._store.lose_stream(delivery.id))
            return 0.0
        except Undeliverable as refusal:
            return await self._finish(delivery, "dead", problem=str(refusal))
        except Exception as doubt:
            problem = str(doubt) or type(doubt).__name__
            if may_repeat(delivery, channel.idempotent_for, self._clock()):
                return await self._postpone(delivery, None, problem, in_doubt=True)
            return await self._finish(delivery, "doubtful", problem=problem)
        return await self._finish(delivery, "sent", ref=sent.id)

    async def _postpone(
        self, delivery: Delivery, after: float | None, problem: str, *, in_doubt: bool
    ) -> float:
        wait = (after if after is not None else backoff(delivery.reply.attempt)) * random.uniform(1.0, 1.2)  # noqa: S311
        until = self._clock() + wait
        self._due[delivery.id] = asyncio.get_running_loop().time() + wait
        await _recorded(lambda: self._store.postpone(delivery.id, until, problem, in_doubt=in_doubt))
        self._metrics.delivery(delivery.reply.conversation.channel, "retried")
        log.warning("%s: retrying in %.1f s: %s", _name(delivery), wait, problem)
        return wait

    async def _finish(
        self, delivery: Delivery, state: FinalState, *, ref: str | None = None, problem: str | None = None
    ) -> float | None:
        """Record the final state of a message, which is not attempted again."""
        self._due.pop(delivery.id, None)
        await _recorded(lambda: self._store.finish(delivery.id, state, ref=ref, problem=problem))
        self._metrics.delivery(delivery.reply.conversation.channel, state)
        if problem:
            log.warning("%s: %s: %s", _name(delivery), state, problem)
        else:
            log.info("%s: %s", _name(delivery), state)
        return None


async def _recorded(record: Callable[[], Awaitable[None]]) -> None:
    """Call `record` until it succeeds: if the outcome of an attempt is not stored, it becomes doubtful.

    Raise `StoreRefused` if the database refuses it repeatedly.
    """
    refused = 0
    while True:
        try:
            return await record()
        except StoreError as fault:
            refused += isinstance(fault, StoreRefused)
            if refused >= MOST_REFUSALS:
                raise
            log.error("%s; retrying in %g s", fault, RECORD_AGAIN_AFTER)
            await asyncio.sleep(RECORD_AGAIN_AFTER)


def _buckets(channel: Channel, reply: Reply, *, whole: bool = False) -> tuple[Bucket, ...]:
    """Return the token buckets of sending a reply; those of all chats if `whole`."""
    call: PacedKind = "message" if reply.shown is None else "completion"
    found = channel.pace(reply.conversation, reply.chat_kind, call)
    return tuple(bucket for bucket in found if not (whole and bucket.of_chat))


def _name(delivery: Delivery) -> str:
    reply = delivery.reply
    return f"{reply.conversation.channel} reply {delivery.id} ({reply.part + 1}/{reply.parts})"
