"""A gate that lets so many through at once, in the order in which they came."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Gate:
    """As a semaphore, and tells who waits how many are ahead."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside = 0
        self._waiting: OrderedDict[int, asyncio.Future[None]] = OrderedDict()

    @property
    def is_free(self) -> bool:
        """Whether one who came now would not have to wait."""
        return self._inside < self._places

    def ahead(self, number: int) -> int:
        """How many are let through before, or are inside; 0 when this one does not wait."""
        for position, waiting in enumerate(self._waiting):
            if waiting == number:
                return position + self._inside
        return 0

    @asynccontextmanager
    async def place(self, number: int) -> AsyncIterator[None]:
        """Wait for a place, and have it while entered. `number` is of this one alone."""
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
            # The place may have been given in the very moment: then it is the next one's.
            if turn.done() and not turn.cancelled():
                self._leave()
            raise
        finally:
            self._waiting.pop(number, None)

    def _leave(self) -> None:
        """Give a place to the first who waits, or let it be free."""
        for number, turn in self._waiting.items():
            if not turn.done():
                del self._waiting[number]
                turn.set_result(None)
                return
        self._inside -= 1
