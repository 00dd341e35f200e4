"""Work in lanes: within a lane one piece at a time and in order, the lanes side by side and in turn."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

log = logging.getLogger(__name__)

RETRY_AFTER_FAULT = 5.0


class Lanes(Generic[K, T]):
    """The schedule, without any work: who is next.

    Lanes take turns: after its piece, a lane waits until every other lane that has work had one.
    """

    def __init__(self) -> None:
        self._waiting: dict[K, deque[T]] = {}
        self._ready: deque[K] = deque()
        self._busy: set[K] = set()

    def __len__(self) -> int:
        """How many pieces wait, those being worked on not counted."""
        return sum(map(len, self._waiting.values()))

    def put(self, lane: K, piece: T) -> None:
        """Add a piece at the end of a lane."""
        queue = self._waiting.setdefault(lane, deque())
        if not queue and lane not in self._busy:
            self._ready.append(lane)
        queue.append(piece)

    def take(self) -> tuple[K, T] | None:
        """The next piece of a lane that is free; the lane is busy until `done`. None when there is none."""
        if not self._ready:
            return None
        lane = self._ready.popleft()
        self._busy.add(lane)
        queue = self._waiting[lane]
        piece = queue.popleft()
        if not queue:
            del self._waiting[lane]
        return lane, piece

    def done(self, lane: K) -> None:
        """The piece taken from this lane is finished."""
        self._busy.discard(lane)
        if lane in self._waiting:
            self._ready.append(lane)


class LaneRunner(Generic[K, T]):
    """Does the work of lanes, at most `limit` pieces at once.

    `handle` does a piece. It returns None when the piece is finished, or the seconds after which the same
    piece is to be handled again; meanwhile its lane waits, and its place is free for another lane. A piece
    whose handling raises is logged and handled again: work leaves a lane only when it is finished.
    """

    def __init__(self, handle: Callable[[T], Awaitable[float | None]], limit: int) -> None:
        self._handle = handle
        self._limit = limit
        self._lanes: Lanes[K, T] = Lanes()
        self._repeats: deque[tuple[K, T]] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._stopped = False

    def put(self, lane: K, piece: T) -> None:
        """Add work."""
        self._lanes.put(lane, piece)
        self._pump()

    async def stop(self, grace: float) -> None:
        """Begin nothing more, give what is under way `grace` seconds, then cancel it."""
        self._stopped = True
        for timer in self._timers:
            timer.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=grace)
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    def _pump(self) -> None:
        while not self._stopped and len(self._running) < self._limit:
            taken = self._repeats.popleft() if self._repeats else self._lanes.take()
            if taken is None:
                return
            task = asyncio.create_task(self._work(*taken))
            self._running.add(task)
            task.add_done_callback(self._finished)

    async def _work(self, lane: K, piece: T) -> None:
        try:
            again_after = await self._handle(piece)
        except Exception:
            log.exception("a piece of work failed, it is repeated in %g s", RETRY_AFTER_FAULT)
            again_after = RETRY_AFTER_FAULT
        if again_after is None:
            self._lanes.done(lane)
        else:
            self._repeat_after(again_after, lane, piece)

    def _repeat_after(self, seconds: float, lane: K, piece: T) -> None:
        def repeat() -> None:
            self._timers.discard(timer)
            self._repeats.append((lane, piece))
            self._pump()

        timer = asyncio.get_running_loop().call_later(seconds, repeat)
        self._timers.add(timer)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._pump()
