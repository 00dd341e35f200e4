"""A rate limit for calls."""

from __future__ import annotations

import asyncio


class Pace:
    """A rate limiter that admits callers in order, at most `a_second` in any second."""

    def __init__(self, a_second: float) -> None:
        self._between = 1.0 / a_second
        self._next = 0.0
        self._queue = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for a turn. A caller that is cancelled while waiting uses none."""
        async with self._queue:
            if (left := self._next - asyncio.get_running_loop().time()) > 0:
                await asyncio.sleep(left)
            self._next = asyncio.get_running_loop().time() + self._between
