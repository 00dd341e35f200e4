"""`getUpdates` as the platform's server does it (Client.cpp: process_get_updates_query, do_get_updates)."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from tests.standins.telegram.state import Bot
from tests.standins.telegram.wire import ApiError, Call

LONGEST_POLL = 50
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; "
    "use deleteWebhook to delete the webhook first"
)
OTHER_POLLER = (
    "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
)
WEBHOOK_SET = "Conflict: terminated by setWebhook request"


class Polling:
    """The long poll of one bot: one caller at a time, the newest wins."""

    def __init__(self, bot: Bot) -> None:
        self._bot = bot
        self._waiting: asyncio.Future[Any] | None = None
        self._previous: tuple[int, float] | None = None
        self._next_conflict = 0.0

    async def get_updates(self, call: Call) -> list[dict[str, Any]]:
        """Return updates from `offset` on; those before it are confirmed and removed."""
        if self._bot.webhook:
            return await self._conflict(WEBHOOK_ACTIVE)
        if call.text("allowed_updates"):
            self._bot.ask_for(call.json("allowed_updates") or [])
        offset = call.integer("offset")
        limit = min(max(call.integer("limit", 100), 1), 100)
        timeout = min(max(call.integer("timeout"), 0), LONGEST_POLL)
        limit, timeout = self._slow_down(offset, limit, timeout)
        self._confirm(offset)
        if not self._bot.queue and timeout:
            await self._wait(timeout)
        return [update.body() for update in list(self._bot.queue)[:limit]]

    def abort(self, reason: str) -> None:
        """End the waiting call with 409."""
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(reason)

    def _slow_down(self, offset: int, limit: int, timeout: int) -> tuple[int, int]:
        """Return less, and later, to a client that repeats the same offset."""
        now = time.monotonic()
        if self._previous and self._previous[0] == offset:
            since = now - self._previous[1]
            timeout = 3 if timeout < 3 and since < 3.0 else timeout
            limit = 1 if since < 0.5 else limit
        self._previous = (offset, now)
        return limit, timeout

    def _confirm(self, offset: int) -> None:
        queue = self._bot.queue
        if offset < 0:
            while len(queue) > -offset:
                queue.popleft()
        elif offset <= self._bot.next_update:
            while queue and queue[0].id < offset:
                queue.popleft()

    async def _wait(self, timeout: float) -> None:
        self.abort(OTHER_POLLER)
        self._bot.woken.clear()
        mine: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting = mine
        news: asyncio.Future[Any] = asyncio.ensure_future(self._bot.woken.wait())
        try:
            await asyncio.wait([mine, news], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if mine.done():
            await self._conflict(mine.result())
        mine.cancel()

    async def _conflict(self, description: str) -> list[dict[str, Any]]:
        """Answer 409; a second one within three seconds only after three seconds."""
        now = time.monotonic()
        if now < self._next_conflict:
            await asyncio.sleep(3.0)
        else:
            self._next_conflict = now + 3.0
        raise ApiError(409, description)
