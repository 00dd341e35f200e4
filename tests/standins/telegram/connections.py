"""How fast Telegram opens connections to a webhook (`WebhookActor::create_new_connections`).

While updates are taken, 10 in half a second; when none was for 10 s, one in 2 s. It opens one in advance,
too, which is not modelled: here a connection is begun when there is something to send.
"""

from __future__ import annotations

import asyncio
import time

from tests.standins.limits import Window

OPENS = "connection.connect_tcp.started"


class NewConnections:
    """Holds connections back that the platform would not open yet. One object a setting of the webhook."""

    def __init__(self) -> None:
        self._active, self._pending = Window(10, 0.5), Window(1, 2.0)
        self._taken_at = float("-inf")
        self._turn = asyncio.Lock()

    def taken(self) -> None:
        """Note that an update was accepted."""
        self._taken_at = time.monotonic()

    async def trace(self, event: str, _: object) -> None:
        """Wait, as httpx's request extension `trace`, when a connection would be opened too soon."""
        if event != OPENS:
            return
        async with self._turn:
            while wait := self._allowed.wait("", time.monotonic()):
                await asyncio.sleep(
                    min(wait, 0.02)
                )  # an update that is accepted in the meantime changes what is allowed
            self._allowed.add("", time.monotonic())

    @property
    def _allowed(self) -> Window:
        return self._active if time.monotonic() < self._taken_at + 10 else self._pending
