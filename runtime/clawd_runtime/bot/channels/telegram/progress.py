"""Progress of a message on Telegram, from its arrival to its answer.

"typing" when it arrives; while it waits for a model, a message with the number of messages ahead; while a
model answers, a draft in private chats and "typing" in other chats.
"""

from __future__ import annotations

import asyncio
import logging
import re
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from clawd_runtime.bot.channels.base import DeliveryUnknown, RetryLater
from clawd_runtime.bot.channels.telegram.api import TelegramApi, TelegramRefusal
from clawd_runtime.bot.channels.telegram.pieces import as_shown
from clawd_runtime.bot.handling.pace import Pace
from clawd_runtime.bot.values import ConversationKey, Inbound

log = logging.getLogger(__name__)

TYPING_LASTS = 4.5  # Telegram shows it for five seconds
DRAFT_EVERY = 1.0
CALL_SECONDS = 5.0
NUMBER = re.compile(r"-?[0-9]{1,18}")
# Telegram accepts some 30 messages per second in total: when hundreds wait, notices leave capacity to
# answers. "typing" is not a message, but is limited in the same way.
SIGNS_A_SECOND = 25.0
NOTICES_A_SECOND = 20.0


class Growing:
    """The answer so far to one message."""

    def __init__(self) -> None:
        self.text = ""
        self._grown = asyncio.Event()

    def show(self, text: str) -> None:
        """See `base.AnswerProgress`."""
        self.text = text
        self._grown.set()

    async def grown(self) -> None:
        """Wait until the answer has changed since the last call."""
        await self._grown.wait()
        self._grown.clear()


class TelegramProgress:
    """Shows the progress of messages. Failures are only logged: the answer itself is sent separately."""

    def __init__(self, api: TelegramApi) -> None:
        self._api = api
        self.drafts_work = True
        self._drafts_have_entities = True
        self._signs = Pace(SIGNS_A_SECOND)
        self._notices = Pace(NOTICES_A_SECOND)

    async def received(self, inbound: Inbound) -> None:
        """Show "typing" once."""
        if (place := place_of(inbound.conversation)) is not None:
            await self._signs.turn()
            await self._try("sendChatAction", place | {"action": "typing"})

    async def waiting(self, inbound: Inbound, notice: Callable[[], str]) -> None:
        """Send `notice` once, without retries, since Telegram has no idempotency key."""
        if (place := place_of(inbound.conversation)) is not None:
            await self._notices.turn()
            await self._try("sendMessage", place | {"text": notice(), "disable_notification": True})

    @asynccontextmanager
    async def shown(self, inbound: Inbound) -> AsyncIterator[Growing]:
        """Show the answer that is passed to the yielded value while the context is active."""
        growing = Growing()
        tasks = [asyncio.create_task(self._type(inbound, growing))]
        if inbound.chat_kind == "private" and self.drafts_work:
            tasks.append(asyncio.create_task(self._draft(inbound, growing)))
        try:
            yield growing
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _type(self, inbound: Inbound, growing: Growing) -> None:
        drafted, place = inbound.chat_kind == "private", place_of(inbound.conversation)
        while place is not None and not (drafted and self.drafts_work and growing.text):
            await self._try("sendChatAction", place | {"action": "typing"})
            await asyncio.sleep(TYPING_LASTS)

    async def _draft(self, inbound: Inbound, growing: Growing) -> None:
        place, draft_id = place_of(inbound.conversation), zlib.crc32(inbound.event_id.encode()) or 1
        while place is not None and self.drafts_work:
            await growing.grown()
            text = as_shown(growing.text, plain=not self._drafts_have_entities)
            draft = place | {"draft_id": draft_id} | text
            self.drafts_work = await self._try("sendMessageDraft", draft)
            await asyncio.sleep(DRAFT_EVERY)

    async def _try(self, method: str, parameters: dict[str, Any]) -> bool:
        """Call a method and log its errors; return False if Telegram does not know the method."""
        try:
            await self._api.call(method, parameters, seconds=CALL_SECONDS)
        except RetryLater as delay:
            await asyncio.sleep(delay.after or DRAFT_EVERY)
        except TelegramRefusal as refusal:
            log.info("%s", refusal)
            self._drafts_have_entities &= "entities" not in parameters
            return refusal.code != 404
        except DeliveryUnknown as fault:
            log.info("%s", fault)
        return True


def place_of(conversation: ConversationKey) -> dict[str, Any] | None:
    """Return the parameters that name a chat and topic; None if the chat cannot be a Telegram chat."""
    if not NUMBER.fullmatch(conversation.chat):
        return None
    place: dict[str, Any] = {"chat_id": int(conversation.chat)}
    if NUMBER.fullmatch(conversation.thread):
        place["message_thread_id"] = int(conversation.thread)
    return place
