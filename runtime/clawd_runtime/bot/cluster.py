"""This bot among those that share its database.

Every bot is a member with a number. It holds the advisory lock of its number in a session of its own
(`store.presence`), owns the messages it has received (`store.members`), and works only on these. What can go
wrong:

- A bot dies: the server frees its lock. The others see it at two looks in a row and remove it; one of
  them adopts what it owned. Its replies that were being sent are in doubt, and treated as after a restart.
- A bot is told to stop: it gives away at once what it has not begun, finishes what it has, and leaves.
- The connection breaks, or the database starts anew: all locks are free. Each bot takes its own again before
  the others have looked twice; work goes on under the same number. Meanwhile nothing can be stored, and
  platforms are told to repeat (503).
- A bot is only slow, cut off or stopped by hand, and was removed: it does not know. That is why nothing
  depends on its knowing. Removal deletes it from the table of members, and every transaction that writes
  begins, after waiting for its turn, by finding its member there: one that settles either comes before the
  removal, and the heir finds the message dealt with, or fails. An answer is stored with its replies in one
  transaction, so it is stored once. A send is recorded before it begins: the heir sees it begun, and repeats
  it only where the platform knows its key. The bot notices at its next look, forgets what it was about to
  store, and joins under a new number. What cannot be fenced is a request to a platform: one that a frozen bot
  was about to make, and makes when it wakes, arrives once, but after answers that others have sent meanwhile.
- A lock frees late (a host lost its power: some ten seconds, until keep-alives have failed): its
  conversations wait so long, the others do not.

Notices only hasten what regular looks would find: a lost one costs seconds, nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from clawd_runtime.bot.deliverer import Deliverer
from clawd_runtime.bot.store.members import Notice, Presence
from clawd_runtime.bot.store.store import Store
from clawd_runtime.bot.worker import Worker
from clawd_runtime.errors import StoreError

log = logging.getLogger(__name__)

ALONE = 1
LOOK_EVERY = 1.5
RETURN_AFTER = 0.5
# What was committed though the connection broke at that moment is found by this.
LOOK_THROUGH_EVERY = 20.0


class Cluster:
    """Keeps this bot a member between `start` and `leave`.

    `open_presence` is None where the bot is alone by the nature of its database.
    """

    def __init__(
        self,
        store: Store,
        open_presence: Callable[[], Awaitable[Presence]] | None,
        worker: Worker,
        deliverer: Deliverer,
        channels: Iterable[str],
    ) -> None:
        self._store = store
        self._open_presence = open_presence
        self._worker = worker
        self._deliverer = deliverer
        self._channels = tuple(channels)
        self._presence: Presence | None = None
        self._member = ALONE
        self._leaving = False
        self._looked_through = 0.0

    async def start(self) -> None:
        """Join, and take up what an earlier run or a bot that died has left. Raises `StoreError`."""
        if self._open_presence is None:
            await self._store.join(ALONE, self._channels)
        else:
            self._presence = await self._open_presence()
            await self._join(self._presence)
        await self._look_through()

    async def run(self) -> None:
        """Stay a member, hear what others tell, and take over from those that died; until cancelled."""
        while self._open_presence is not None:
            try:
                if self._presence is None:
                    self._presence = await self._open_presence()
                    await self._return(self._presence)
                await self._attend(self._presence)
            except Exception as fault:
                # A fault of ours, too, must not end it: who looks no more is soon taken for dead.
                expected = isinstance(fault, StoreError)
                log.warning("%s; again in %g s", fault, RETURN_AFTER, exc_info=not expected)
                await self._vanish()
                await asyncio.sleep(RETURN_AFTER)

    async def begin_leaving(self, keep: Iterable[int]) -> None:
        """Give away what has not begun: all messages but those in `keep`."""
        self._leaving = True
        with suppress(StoreError):  # then the others take it when the presence ends
            await self._store.begin_leaving(keep)

    async def leave(self) -> None:
        """Be a member no more."""
        with suppress(StoreError):
            await self._store.leave()
        await self._vanish()

    async def _attend(self, presence: Presence) -> None:
        suspects: frozenset[int] = frozenset()
        while True:
            until = time.monotonic() + LOOK_EVERY
            while (left := until - time.monotonic()) > 0:
                for notice in await presence.notices(left):
                    await self._hear(notice)
            census = await presence.census(self._member)
            if not census.listed and not self._leaving:
                log.warning("member %d was taken for dead: what it had is with others", self._member)
                self._worker.forget()
                await presence.release()
                await self._join(presence)
                await self._look_through()
                continue
            await self._take_over(census.gone & suspects)
            suspects = census.gone

    async def _return(self, presence: Presence) -> None:
        """After the connection broke: be the same member again, before the others have missed it."""
        if not await presence.hold(self._member):
            raise StoreError(f"the earlier session of member {self._member} has not ended yet")
        if (await presence.census(self._member)).listed:
            log.info("connected again as member %d", self._member)
            await self._look_through()
            self._worker.wake_all()
            self._deliverer.wake_all()

    async def _join(self, presence: Presence) -> None:
        self._member = await presence.new_number()
        await self._store.join(self._member, self._channels)
        log.info("joined as member %d", self._member)

    async def _take_over(self, gone: frozenset[int]) -> None:
        try:
            for member in sorted(gone):
                if await self._store.bury(member):
                    log.warning("member %d is gone; what it left is taken over", member)
                    await self._look_through()
            await self._adopt()
            if time.monotonic() > self._looked_through + LOOK_THROUGH_EVERY:
                await self._look_through()
        except StoreError as fault:
            log.warning("%s", fault)  # the next look tells whether it is this bot that is gone

    async def _hear(self, notice: Notice) -> None:
        if notice.to not in (0, self._member):
            return
        try:
            match notice.about:
                case "inbox" if not self._worker.wake(notice.number):
                    await self._look_through()
                case "outbox" if not self._deliverer.wake(notice.number):
                    await self._look_through()
                case "orphans":
                    await self._adopt()
        except StoreError as fault:
            log.warning("%s", fault)

    async def _adopt(self) -> None:
        if await self._store.adopt():
            await self._look_through()

    async def _look_through(self) -> None:
        """Take up whatever is this bot's own and not in work."""
        messages, replies = await self._store.unfinished()
        self._deliverer.add(replies)
        self._worker.add(messages)
        self._looked_through = time.monotonic()

    async def _vanish(self) -> None:
        presence, self._presence = self._presence, None
        if presence is not None:
            await presence.close()
