"""From the outbox to the platforms: in order within a conversation, repeated until it is certain."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping

from clawd_runtime.bot.backoff import backoff
from clawd_runtime.bot.channels.base import Channel, RetryLater, Undeliverable
from clawd_runtime.bot.lanes import LaneRunner
from clawd_runtime.bot.metrics import Metrics
from clawd_runtime.bot.store.inbox import Behind
from clawd_runtime.bot.store.outbox import Delivery, FinalState
from clawd_runtime.bot.store.store import Queued, Store
from clawd_runtime.bot.values import ConversationKey
from clawd_runtime.errors import StoreError, StoreRefused

log = logging.getLogger(__name__)

# Of each channel: while one platform is slow to refuse, the answers for the others pass.
SENT_AT_ONCE = 64
SEND_SECONDS = 60.0
GIVE_UP_AFTER = 24 * 3600.0
RECORD_AGAIN_AFTER = 5.0
MOST_REFUSALS = 3
# Another bot sends to the conversation, and tells when it has finished; if that was not heard:
LOOK_AGAIN_AFTER = 2.0
STOOD_STILL = 8.0
IDEMPOTENCY_MARGIN = 120.0


def may_repeat(delivery: Delivery, idempotent_for: float, now: float) -> bool:
    """Whether the platform would still recognise a repetition of what may have arrived."""
    return now < _begun(delivery, now) + idempotent_for - IDEMPOTENCY_MARGIN


def _begun(delivery: Delivery, now: float) -> float:
    """When the first attempt was made. How long it had waited before does not count: its host may have been
    off for days.
    """
    return delivery.first_attempt_at if delivery.first_attempt_at is not None else now


class Deliverer:
    """Sends what is queued; begin with what `Store.unfinished` tells."""

    def __init__(
        self,
        store: Store,
        channels: Mapping[str, Channel],
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._channels = channels
        self._metrics = metrics
        self._clock = clock
        self._runners: dict[str, LaneRunner[ConversationKey]] = {
            name: LaneRunner(self._handle, SENT_AT_ONCE) for name in channels
        }
        # Recorded as begun, perhaps, but not sent: the database broke before it had answered.
        self._never_left: set[int] = set()
        # When what this run has put off is due, by a clock that nobody sets.
        self._due: dict[int, float] = {}

    def add(self, queued: list[Queued]) -> None:
        """Send these messages. Those of a channel that is not configured stay stored."""
        for id, conversation in queued:
            if conversation.channel in self._runners:
                self._runners[conversation.channel].put(conversation, id)

    def wake(self, id: int) -> bool:
        """Look at a message again that was another bot's turn; False when it is not known here."""
        return any(runner.wake(id) for runner in self._runners.values())

    def wake_all(self) -> None:
        """Look at everything again that waits for its repetition: the database is back."""
        for runner in self._runners.values():
            runner.wake_all()

    async def stop(self, grace: float) -> None:
        """Begin no other attempt; one that does not end within `grace` seconds is in doubt."""
        await asyncio.gather(*(runner.stop(grace) for runner in self._runners.values()))

    async def _handle(self, id: int) -> float | None:
        """Make one attempt; the seconds until the next one, None when it is over."""
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
        try:
            begun = await self._store.begin_sending(id)
        except StoreError:
            if not in_doubt:
                self._never_left.add(id)
            raise
        if begun and self._clock() - now > STOOD_STILL:
            # It may have been taken for dead meanwhile, and the next answer been sent by another bot.
            if not in_doubt:
                self._never_left.add(id)
            return 0.0
        self._never_left.discard(id)
        return await self._attempt(delivery, channel, in_doubt=in_doubt) if begun else 0.0

    def _seconds_until_due(self, delivery: Delivery, now: float) -> float:
        """What was never tried is due, and what this run has put off when it said so, whatever the time of
        day is now: it may have been set back by hours.
        """
        if delivery.reply.attempt == 1:
            return 0.0
        due = self._due.get(delivery.id)
        return delivery.not_before - now if due is None else due - time.monotonic()

    async def _attempt(self, delivery: Delivery, channel: Channel, *, in_doubt: bool) -> float | None:
        """`in_doubt` says that an earlier attempt may have arrived; no refusal of this one changes that."""
        try:
            async with asyncio.timeout(SEND_SECONDS):
                sent = await channel.send(delivery.reply)
        except RetryLater as delay:
            if self._clock() > _begun(delivery, self._clock()) + GIVE_UP_AFTER:
                return await self._finish(delivery, "dead", problem=f"given up: {delay}")
            return await self._postpone(delivery, delay.after, str(delay), in_doubt=in_doubt)
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
        self._due[delivery.id] = time.monotonic() + wait
        await _recorded(lambda: self._store.postpone(delivery.id, until, problem, in_doubt=in_doubt))
        self._metrics.delivery(delivery.reply.conversation.channel, "retried")
        log.warning("%s: again in %.1f s: %s", _name(delivery), wait, problem)
        return wait

    async def _finish(
        self, delivery: Delivery, state: FinalState, *, ref: str | None = None, problem: str | None = None
    ) -> float | None:
        """Record how it ended; no other attempt is made."""
        self._due.pop(delivery.id, None)
        await _recorded(lambda: self._store.finish(delivery.id, state, ref=ref, problem=problem))
        self._metrics.delivery(delivery.reply.conversation.channel, state)
        if problem:
            log.warning("%s: %s: %s", _name(delivery), state, problem)
        else:
            log.info("%s: %s", _name(delivery), state)
        return None


async def _recorded(record: Callable[[], Awaitable[None]]) -> None:
    """Repeat until it is stored: how an attempt ended is known here only; forgotten, it becomes a doubt.

    Raises `StoreRefused` when the database will not take it.
    """
    refused = 0
    while True:
        try:
            return await record()
        except StoreError as fault:
            refused += isinstance(fault, StoreRefused)
            if refused >= MOST_REFUSALS:
                raise
            log.error("%s: again in %g s", fault, RECORD_AGAIN_AFTER)
            await asyncio.sleep(RECORD_AGAIN_AFTER)


def _name(delivery: Delivery) -> str:
    reply = delivery.reply
    return f"{reply.conversation.channel} reply {delivery.id} ({reply.part + 1}/{reply.parts})"
