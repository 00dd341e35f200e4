"""Showing on Telegram that an answer is being made: a draft in private chats, "typing" elsewhere."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from clawd_runtime.bot.channels.base import DeliveryUnknown, RetryLater
from clawd_runtime.bot.channels.telegram_api import TelegramApi, TelegramRefusal
from clawd_runtime.bot.splitting import shorten
from clawd_runtime.bot.values import Inbound

log = logging.getLogger(__name__)

TYPING_LASTS = 4.5  # Telegram shows it for five seconds
DRAFT_EVERY = 1.0
DRAFT_UNITS = 4096
CALL_SECONDS = 5.0


class Growing:
    """The answer so far of one message."""

    def __init__(self) -> None:
        self.text = ""
        self._grown = asyncio.Event()

    def show(self, text: str) -> None:
        """See `base.Progress`."""
        self.text = text
        self._grown.set()

    async def grown(self) -> None:
        """Wait until there is more than at the last call."""
        await self._grown.wait()
        self._grown.clear()


class TelegramProgress:
    """Failures are of no importance: the answer itself comes later, by another way."""

    def __init__(self, api: TelegramApi) -> None:
        self._api = api
        self._drafts_work = True

    @asynccontextmanager
    async def shown(self, inbound: Inbound) -> AsyncIterator[Growing]:
        """While entered, what the result is told to show is shown."""
        growing = Growing()
        tasks = [asyncio.create_task(self._type(inbound, growing))]
        if inbound.chat_kind == "private" and self._drafts_work:
            tasks.append(asyncio.create_task(self._draft(inbound, growing)))
        try:
            yield growing
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _type(self, inbound: Inbound, growing: Growing) -> None:
        drafted = inbound.chat_kind == "private"
        while not (drafted and self._drafts_work and growing.text):
            await self._try("sendChatAction", _place(inbound) | {"action": "typing"})
            await asyncio.sleep(TYPING_LASTS)

    async def _draft(self, inbound: Inbound, growing: Growing) -> None:
        place = _place(inbound) | {"draft_id": zlib.crc32(inbound.event_id.encode()) or 1}
        while self._drafts_work:
            await growing.grown()
            draft = place | {"text": shorten(growing.text, DRAFT_UNITS)}
            self._drafts_work = await self._try("sendMessageDraft", draft)
            await asyncio.sleep(DRAFT_EVERY)

    async def _try(self, method: str, parameters: dict[str, Any]) -> bool:
        """False when Telegram refuses the method as such, not just this time."""
        try:
            await self._api.call(method, parameters, seconds=CALL_SECONDS)
        except RetryLater as delay:
            await asyncio.sleep(delay.after or DRAFT_EVERY)
        except TelegramRefusal as refusal:
            log.info("%s", refusal)
            return refusal.code != 404
        except DeliveryUnknown as fault:
            log.info("%s", fault)
        return True


def _place(inbound: Inbound) -> dict[str, Any]:
    place: dict[str, Any] = {"chat_id": int(inbound.conversation.chat)}
    if inbound.conversation.thread:
        place["message_thread_id"] = int(inbound.conversation.thread)
    return place
