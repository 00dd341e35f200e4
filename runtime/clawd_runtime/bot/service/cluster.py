"""Membership of this bot in the cluster of bots that share a database.

Every bot is a member with a number. It holds the advisory lock of its number in a separate session
(`store.presence`), owns the messages that it has received (`store.members`), and works only on these.
Possible failures:

- A bot dies: the server releases its lock. The others find it missing in two checks in a row and evict it;
  one of them adopts its messages. Its replies that were being sent are doubtful, and treated as after a
  restart.
- A bot receives a signal to stop: it releases all work that it has not started, finishes the rest, and
  leaves.
- The connection breaks, or the database restarts: all locks are free. Each bot takes its own lock again
  before the others have checked twice; work continues under the same number. Until then nothing can be
  stored, and platforms receive 503, on which they repeat the event.
- A bot is only slow, disconnected or suspended, and was evicted without noticing. Therefore nothing depends
  on its noticing. Eviction deletes it from the table of members, and every writing transaction starts, after
  waiting for its turn, by finding its member there: one that settles a message either commits before the
  eviction, and the adopting bot finds the message settled, or fails. An answer is stored with its replies in
  one transaction, so it is stored once. A send is recorded before it starts: the adopting bot sees it
  started, and repeats it only if the platform recognises its idempotency key. The evicted bot notices at its
  next check, drops what it was about to store, and joins under a new number. A request to a platform cannot
  be fenced: one that a suspended bot was about to make, and makes when it resumes, arrives once, but after
  later answers that other bots have sent.
- A lock is released late (a host lost its power: about ten seconds, until keep-alives have failed): its
  conversations wait that long, the others do not.

Notices only speed up what periodic checks would find: a lost notice costs seconds, nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from clawd_runtime.bot.handling.deliverer import Deliverer
from clawd_runtime.bot.handling.worker import Worker
from clawd_runtime.bot.store.members import Notice, Presence
from clawd_runtime.bot.store.store import Store
from clawd_runtime.errors import StoreError

log = logging.getLogger(__name__)

ALONE = 1
LOOK_EVERY = 1.5
RETURN_AFTER = 0.5
# Finds work that was committed at the moment when the connection broke.
LOOK_THROUGH_EVERY = 20.0


class Cluster:
    """The membership of this bot between `start` and `leave`.

    `open_presence` is None if the database is used by one bot only.
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
        """Join, and resume the work of an earlier run or a dead bot. Raise `StoreError` on failure."""
        if self._open_presence is None:
            await self._store.join(ALONE, self._channels)
        else:
            self._presence = await self._open_presence()
            await self._join(self._presence)
        await self._look_through()

    async def run(self) -> None:
        """Keep up the membership, process notices, and take over from dead members, until cancelled."""
        while self._open_presence is not None:
            try:
                if self._presence is None:
                    self._presence = await self._open_presence()
                    await self._return(self._presence)
                await self._attend(self._presence)
            except Exception as fault:
                # An internal error must not end it either: a member that misses its checks is evicted.
                expected = isinstance(fault, StoreError)
                log.warning("%s; retrying in %g s", fault, RETURN_AFTER, exc_info=not expected)
                await self._vanish()
                await asyncio.sleep(RETURN_AFTER)

    async def begin_leaving(self, keep: Iterable[int]) -> None:
        """Release all messages but those in `keep`, for other bots to take."""
        self._leaving = True
        with suppress(StoreError):  # the others then take them when the presence ends
            await self._store.begin_leaving(keep)

    async def leave(self) -> None:
        """Leave the cluster."""
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
                log.warning("member %d was evicted: other bots have taken over its work", self._member)
                self._worker.forget()
                await presence.release()
                await self._join(presence)
                await self._look_through()
                continue
            await self._take_over(census.gone & suspects)
            suspects = census.gone

    async def _return(self, presence: Presence) -> None:
        """Resume the membership after the connection broke, before the others evict it."""
        if not await presence.hold(self._member):
            raise StoreError(f"cannot resume member {self._member}: its earlier session has not ended yet")
        if (await presence.census(self._member)).listed:
            log.info("reconnected as member %d", self._member)
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
                    log.warning("member %d is dead and was evicted: taking over its work", member)
                    await self._look_through()
            await self._adopt()
            if time.monotonic() > self._looked_through + LOOK_THROUGH_EVERY:
                await self._look_through()
        except StoreError as fault:
            log.warning("%s", fault)  # the next check shows whether this bot itself was evicted

    async def _hear(self, notice: Notice) -> None:
        if notice.to not in (0, self._member):
            return
        try:
            match notice.about:
                case "inbox" if not self._worker.wake(notice.number):
                    await self._look_through()
                case "stop" | "edit":
                    self._worker.interrupt(notice.number, notice.about)
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
        """Queue all unfinished work that this bot owns."""
        unfinished = await self._store.unfinished()
        self._deliverer.add(unfinished.replies)
        self._worker.add_commands(unfinished.commands)
        self._worker.add(unfinished.messages)
        self._looked_through = time.monotonic()

    async def _vanish(self) -> None:
        presence, self._presence = self._presence, None
        if presence is not None:
            await presence.close()
