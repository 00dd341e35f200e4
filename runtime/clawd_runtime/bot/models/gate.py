"""A semaphore that is fair among users, and reports positions in its queue."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Hashable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Waiting:
    user: Hashable
    turn: asyncio.Future[bool]


class QueueSemaphore:
    """A semaphore that also reports how many tasks are ahead of a waiting one.

    The next place goes to the user who holds the fewest, of several to the one whose last turn is longest
    ago. So the many tasks of one user do not delay another user's first one.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._inside: Counter[Hashable] = Counter()
        self._waiting: dict[int, _Waiting] = {}
        self._turns: dict[Hashable, int] = {}
        self._clock = 0

    @property
    def is_free(self) -> bool:
        """Return whether a place is free."""
        return self._inside.total() < self._places

    @property
    def inside(self) -> int:
        """Return how many places are held."""
        return self._inside.total()

    @property
    def waiting(self) -> int:
        """Return how many tasks wait."""
        return len(self._waiting)

    def ahead(self, number: int) -> int:
        """Return how many tasks would get a place before `number`, or have one; 0 if it does not wait."""
        ranks = {waiting: rank for rank, waiting in self._ranked()}
        mine = ranks.get(number)
        if mine is None:
            return 0
        return sum(rank < mine for rank in ranks.values()) + self._inside.total()

    def _ranked(self) -> Iterator[tuple[tuple[int, int, int], int]]:
        """Yield the rank of every waiting task, the lowest of which is next, and its number."""
        held = self._inside.copy()
        for position, (number, waiting) in enumerate(self._waiting.items()):
            yield (held[waiting.user], self._turns.get(waiting.user, 0), position), number
            held[waiting.user] += 1

    def _enter(self, user: Hashable) -> None:
        self._inside[user] += 1
        self._clock += 1
        self._turns[user] = self._clock

    @asynccontextmanager
    async def place(self, number: int, user: Hashable) -> AsyncIterator[bool]:
        """Wait for a place and hold it while entered; False if the task was dismissed.

        `number` is unique among tasks.
        """
        if self.is_free:
            self._enter(user)
        elif not await self._wait(number, user):
            yield False
            return
        try:
            yield True
        finally:
            self._leave(user)

    def dismiss(self) -> None:
        """Have all waiting tasks end their wait without a place."""
        for waiting in self._waiting.values():
            if not waiting.turn.done():
                waiting.turn.set_result(False)
        self._waiting.clear()
        self._turns = {user: turn for user, turn in self._turns.items() if user in self._inside}

    async def _wait(self, number: int, user: Hashable) -> bool:
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[number] = _Waiting(user, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            # The place may have been granted at this moment: then pass it to the next task.
            if turn.done() and not turn.cancelled() and turn.result():
                self._leave(user)
            raise
        finally:
            self._waiting.pop(number, None)

    def _leave(self, user: Hashable) -> None:
        """Pass the place to the next waiting task, or free it."""
        self._inside[user] -= 1
        if not self._inside[user]:
            del self._inside[user]
            if all(waiting.user != user for waiting in self._waiting.values()):
                del self._turns[user]
        waiting = {number: rank for rank, number in self._ranked() if not self._waiting[number].turn.done()}
        if waiting:
            following = self._waiting.pop(min(waiting, key=lambda number: waiting[number]))
            self._enter(following.user)
            following.turn.set_result(True)
