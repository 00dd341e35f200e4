"""A first-in, first-out semaphore that reports positions in its queue."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class QueueSemaphore:
    """A semaphore that also reports how many tasks are ahead of a waiting one."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside = 0
        self._waiting: OrderedDict[int, asyncio.Future[None]] = OrderedDict()

    @property
    def is_free(self) -> bool:
        """Return whether a place is free."""
        return self._inside < self._places

    def ahead(self, number: int) -> int:
        """Return how many tasks wait before `number` or have a place; 0 if it does not wait."""
        for position, waiting in enumerate(self._waiting):
            if waiting == number:
                return position + self._inside
        return 0

    @asynccontextmanager
    async def place(self, number: int) -> AsyncIterator[None]:
        """Wait for a place and hold it while entered. `number` is unique among tasks."""
        if self.is_free:
            self._inside += 1
        else:
            await self._wait(number)
        try:
            yield
        finally:
            self._leave()

    async def _wait(self, number: int) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = turn
        try:
            await turn
        except asyncio.CancelledError:
            # The place may have been granted at this moment: then pass it to the next task.
            if turn.done() and not turn.cancelled():
                self._leave()
            raise
        finally:
            self._waiting.pop(number, None)

    def _leave(self) -> None:
        """Pass the place to the first waiting task, or free it."""
        for number, turn in self._waiting.items():
            if not turn.done():
                del self._waiting[number]
                turn.set_result(None)
                return
        self._inside -= 1
