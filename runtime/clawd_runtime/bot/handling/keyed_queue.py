"""Queues of work by key: sequential and in order within a lane, concurrent and fair between lanes.

Pieces of work are numbers; a lane is ordered by these numbers, not by arrival: work taken over from a dead
bot is older than the work that waits here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable
from heapq import heappop, heappush
from typing import Generic, TypeVar

from clawd_runtime.errors import RuntimeFault

K = TypeVar("K", bound=Hashable)

log = logging.getLogger(__name__)

RETRY_AFTER_FAULT = 5.0
LONGEST_RETRY = 60.0


class Lanes(Generic[K]):
    """The schedule of lanes, without executing any work.

    Lanes take turns: after its piece, a lane waits until every other lane with work has had one. A lane whose
    piece must be retried rests until it is woken, and is then served before the others.
    """

    def __init__(self) -> None:
        self._waiting: dict[K, list[int]] = {}
        self._lane_of: dict[int, K] = {}
        self._ready: deque[K] = deque()
        self._busy: set[K] = set()
        self._resting: set[K] = set()

    def __len__(self) -> int:
        """Return how many pieces wait, without those being handled."""
        return sum(map(len, self._waiting.values()))

    @property
    def in_hand(self) -> frozenset[int]:
        """Return the pieces being handled."""
        return frozenset(self._lane_of) - {piece for queue in self._waiting.values() for piece in queue}

    def put(self, lane: K, piece: int) -> None:
        """Add a piece to a lane, unless it is already waiting or being handled."""
        if piece in self._lane_of:
            return
        queue = self._waiting.setdefault(lane, [])
        if not queue and lane not in self._busy:
            self._ready.append(lane)
        elif queue and piece < queue[0]:
            self.wake(lane)  # it rests because of a piece that is no longer the next one
        heappush(queue, piece)
        self._lane_of[piece] = lane

    def take(self) -> tuple[K, int] | None:
        """Return the next piece of a free lane, which is then busy until `done`; None if there is none."""
        if not self._ready:
            return None
        lane = self._ready.popleft()
        self._busy.add(lane)
        queue = self._waiting[lane]
        piece = heappop(queue)
        if not queue:
            del self._waiting[lane]
        return lane, piece

    def done(self, lane: K, piece: int) -> None:
        """Mark the piece taken from this lane as finished."""
        self._busy.discard(lane)
        del self._lane_of[piece]
        if lane in self._waiting:
            self._ready.append(lane)

    def rest(self, lane: K, piece: int) -> None:
        """Put the piece taken from this lane back, to be retried when the lane is woken."""
        self._busy.discard(lane)
        queue = self._waiting.setdefault(lane, [])
        self._resting.add(lane)
        older_waits = bool(queue) and queue[0] < piece
        heappush(queue, piece)
        if older_waits:
            self.wake(lane)

    def wake(self, lane: K) -> None:
        """End the rest of a lane."""
        if lane in self._resting:
            self._resting.discard(lane)
            self._ready.appendleft(lane)

    def lane_of(self, piece: int) -> K | None:
        """Return the lane of an unfinished piece; None if the piece is unknown."""
        return self._lane_of.get(piece)

    @property
    def resting(self) -> tuple[K, ...]:
        """Return the resting lanes."""
        return tuple(self._resting)


class LaneRunner(Generic[K]):
    """Executes the work of lanes, at most `limit` pieces at once.

    `handle` processes a piece. It returns None when the piece is finished, or the seconds after which it must
    be handled again; until then its lane rests and does not count against `limit`. If it raises, the error is
    logged and the piece is handled again with a growing delay: work leaves a lane only when it is finished.
    """

    def __init__(self, handle: Callable[[int], Awaitable[float | None]], limit: int) -> None:
        self._handle = handle
        self._limit = limit
        self._lanes: Lanes[K] = Lanes()
        self._faults: Counter[int] = Counter()
        self._running: set[asyncio.Task[None]] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._stopped = False

    def put(self, lane: K, piece: int) -> None:
        """Add a piece of work, unless it is already queued."""
        self._lanes.put(lane, piece)
        self._pump()

    def wake(self, piece: int) -> bool:
        """Retry this piece now; return False if it is not queued here."""
        lane = self._lanes.lane_of(piece)
        if lane is None:
            return False
        self._wake(lane)
        return True

    def wake_all(self) -> None:
        """Retry all pieces now."""
        for lane in self._lanes.resting:
            self._wake(lane)

    def begin_nothing(self) -> frozenset[int]:
        """Start no more pieces; return those being handled."""
        self._stopped = True
        for timer in self._timers.values():
            timer.cancel()
        return self._lanes.in_hand

    async def stop(self, grace: float) -> None:
        """Start no more pieces, wait `grace` seconds for those being handled, then cancel them."""
        self.begin_nothing()
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _pump(self) -> None:
        while not self._stopped and len(self._running) < self._limit:
            taken = self._lanes.take()
            if taken is None:
                return
            task = asyncio.create_task(self._work(*taken))
            self._running.add(task)
            task.add_done_callback(self._finished)

    async def _work(self, lane: K, piece: int) -> None:
        try:
            again_after = await self._handle(piece)
        except asyncio.CancelledError:
            if self._stopped:
                raise
            # Else the lane would never be served again.
            log.exception("internal error: handling was cancelled; retrying in %g s", RETRY_AFTER_FAULT)
            again_after = RETRY_AFTER_FAULT
        except Exception as fault:
            self._faults[piece] += 1
            again_after = min(LONGEST_RETRY, RETRY_AFTER_FAULT * 2 ** min(self._faults[piece] - 1, 10))
            # The message of a database or platform error is enough; an internal error needs its traceback.
            expected = isinstance(fault, RuntimeFault)
            log.error(
                "%s; retrying in %g s",
                fault if expected else "internal error: handling failed",
                again_after,
                exc_info=not expected,
            )
        else:
            self._faults.pop(piece, None)
        if again_after is None:
            self._lanes.done(lane, piece)
        else:
            self._lanes.rest(lane, piece)
            self._timers[lane] = asyncio.get_running_loop().call_later(again_after, self._wake, lane)

    def _wake(self, lane: K) -> None:
        if (timer := self._timers.pop(lane, None)) is not None:
            timer.cancel()
        self._lanes.wake(lane)
        self._pump()

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._pump()
