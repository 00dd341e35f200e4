"""The pace of all calls of a platform that send or change messages, with the buckets in the database.

Replies are served before notices, and these before pieces of growing answers; within these in order of
arrival, but a chat that must wait does not hold up others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from clawd_runtime.bot.buckets import Bucket, PacedCall, Urgency
from clawd_runtime.bot.store.store import Store
from clawd_runtime.errors import StoreError

log = logging.getLogger(__name__)

# Calls that one transaction looks at.
AT_ONCE = 64
STORE_AGAIN_AFTER = 1.0


@dataclass(order=True, slots=True)
class _Waiting:
    urgency: Urgency
    number: int
    call: PacedCall = field(compare=False)
    turn: asyncio.Future[None] = field(compare=False)
    not_before: float = field(compare=False, default=0.0)


class Pacing:
    """The pace of this bot's calls to all platforms."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock
        self._number = 0
        self._waiting: dict[str, list[_Waiting]] = {}
        self._arrived: dict[str, asyncio.Event] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}

    async def turn(self, channel: str, buckets: Sequence[Bucket], urgency: Urgency) -> None:
        """Wait for a token of each bucket. A caller that is cancelled while it waits takes none."""
        if not buckets:
            return
        loop = asyncio.get_running_loop()
        self._number += 1
        call = PacedCall(tuple(buckets), urgency)
        waiting = _Waiting(urgency, self._number, call, loop.create_future())
        self._waiting.setdefault(channel, []).append(waiting)
        self._arrived.setdefault(channel, asyncio.Event()).set()
        if channel not in self._serving:
            self._serving[channel] = asyncio.create_task(self._serve(channel))
        try:
            await waiting.turn
        finally:
            if waiting in self._waiting[channel]:
                self._waiting[channel].remove(waiting)

    async def refused(self, channel: str, buckets: Sequence[Bucket], seconds: float) -> None:
        """Record that the platform has refused a call for these seconds, for all bots."""
        if buckets:
            until = self._clock() + seconds
            try:
                await self._store.refuse_calls(channel, tuple(buckets), until)
            except StoreError as fault:
                log.warning("%s", fault)

    async def close(self) -> None:
        """Serve no further calls."""
        for task in self._serving.values():
            task.cancel()
        await asyncio.gather(*self._serving.values(), return_exceptions=True)

    async def _serve(self, channel: str) -> None:
        try:
            while self._waiting[channel]:
                await self._serve_once(channel)
        finally:
            del self._serving[channel]

    async def _serve_once(self, channel: str) -> None:
        now = asyncio.get_running_loop().time
        waiting, arrived = self._waiting[channel], self._arrived[channel]
        due = sorted(each for each in waiting if each.not_before <= now())[:AT_ONCE]
        if not due:
            arrived.clear()
            first = min(each.not_before for each in waiting)
            try:
                async with asyncio.timeout(max(0.0, first - now())):
                    await arrived.wait()
            except TimeoutError:
                pass
            return
        try:
            waits = await self._store.take_tokens(channel, [each.call for each in due])
        except StoreError as fault:
            log.warning("%s", fault)
            await asyncio.sleep(STORE_AGAIN_AFTER)
            return
        for each, wait in zip(due, waits, strict=True):
            each.not_before = now() + wait
            if wait <= 0 and not each.turn.done():
                waiting.remove(each)
                each.turn.set_result(None)
