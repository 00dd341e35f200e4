"""The Telegram channel: webhook or long polling in, `sendMessage` out, drafts and "typing" between.

Source: https://core.telegram.org/bots/api (10.3).
"""

from __future__ import annotations

import hmac
import json
import logging
import re
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.channels.base import (
    Channel,
    ChannelContext,
    ChannelSettings,
    DeliveryUnknown,
    Progress,
    RetryLater,
    Undeliverable,
)
from clawd_runtime.bot.channels.telegram_api import TelegramApi, TelegramRefusal
from clawd_runtime.bot.channels.telegram_progress import TelegramProgress
from clawd_runtime.bot.channels.telegram_reception import (
    Polling,
    Reception,
    RegisteredElsewhere,
    WebhookRegistration,
)
from clawd_runtime.bot.channels.telegram_updates import is_update, read_update
from clawd_runtime.bot.splitting import split
from clawd_runtime.bot.values import Inbound, Reply, SentRef
from clawd_runtime.errors import SettingsError

log = logging.getLogger(__name__)

MESSAGE_UNITS = 4096
WEBHOOK_PATH = "/telegram/webhook"
SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105  the header's name
TOKEN = re.compile(r"^(\d+):[A-Za-z0-9_-]+$")
SECRET_TOKEN = re.compile(r"^[A-Za-z0-9_-]{1,256}$")
REFUSED_TOKEN_WAIT = 60.0


class TelegramSettings(ChannelSettings):
    """`upload_certificate` is the PEM file of a certificate that no public authority signed.

    Telegram knows one webhook a bot: of several hosts with the same token, one `registers_webhook`.
    """

    mode: Literal["webhook", "polling"] = "webhook"
    api_base: Annotated[str, Field(pattern=r"^https?://[^/].*$")] = "https://api.telegram.org"
    upload_certificate: Path | None = None
    registers_webhook: bool = True
    max_connections: Annotated[int, Field(ge=1, le=100)] = 40


class TelegramChannel(Channel):
    """One bot of Telegram."""

    name = "telegram"
    Settings: ClassVar[type[ChannelSettings]] = TelegramSettings

    def __init__(self, settings: TelegramSettings, context: ChannelContext) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._token = context.credentials["telegram-token"]
        if not (matched := TOKEN.match(self._token)):
            raise SettingsError(
                "credential telegram-token: does not look like 123456:ABC…, as BotFather gives it"
            )
        self._id = int(matched[1])
        self._api = TelegramApi(context.http, settings.api_base, self._token)
        self._progress = TelegramProgress(self._api)
        self._reception = self._make_reception()

    @classmethod
    def credentials(cls, settings: Any) -> tuple[str, ...]:
        """The webhook is open to the world: without its secret token the bot does not start."""
        if settings.mode == "webhook":
            return ("telegram-token", "telegram-secret-token")
        return ("telegram-token",)

    def routes(self) -> Sequence[BaseRoute]:
        """The webhook, unless updates are polled."""
        if self._settings.mode == "polling":
            return ()
        return (Route(WEBHOOK_PATH, self._webhook, methods=["POST"]),)

    async def run(self) -> None:
        """Poll, or keep the webhook registered where that is this bot's part."""
        await self._reception.run()

    def split(self, text: str) -> tuple[str, ...]:
        """See `Channel.split`."""
        return split(text, MESSAGE_UNITS)

    async def send(self, reply: Reply) -> SentRef:
        """Send one message; plain text, so nothing in it can be malformed."""
        try:
            return await self._send(reply, reply.conversation.chat)
        except TelegramRefusal as refusal:
            if refusal.migrated_to is None:
                raise _outcome(refusal) from None
            group = str(refusal.migrated_to)
        try:
            return await self._send(reply, group)
        except TelegramRefusal as refusal:
            raise _outcome(refusal) from None

    @asynccontextmanager
    async def answering(self, inbound: Inbound) -> AsyncIterator[Progress]:
        """Show the answer as it grows in private chats, "typing" elsewhere."""
        async with self._progress.shown(inbound) as progress:
            yield progress

    async def _send(self, reply: Reply, chat: str) -> SentRef:
        message: dict[str, Any] = {"chat_id": int(chat), "text": reply.text}
        if reply.conversation.thread:
            message["message_thread_id"] = int(reply.conversation.thread)
        if reply.part == 0 and reply.reply_to:
            message["reply_parameters"] = {
                "message_id": int(reply.reply_to),
                "allow_sending_without_reply": True,
            }
        sent = await self._api.call("sendMessage", message)
        try:
            return SentRef(str(sent["message_id"]))
        except (LookupError, TypeError):
            raise DeliveryUnknown("Telegram sendMessage: an answer without message_id") from None

    async def _webhook(self, request: Request) -> Response:
        given = request.headers.get(SECRET_HEADER, "").encode()
        if not hmac.compare_digest(given, self.context.credentials["telegram-secret-token"].encode()):
            return Response(status_code=401)
        me = self._reception.identity
        if me is None:
            # Telegram will repeat it; who is meant in a group can be told only when we know our name.
            return Response(status_code=503, headers={"Retry-After": "5"})
        try:
            update = json.loads(await request.body())
        except ValueError:
            return Response(status_code=400)
        if not is_update(update):
            return Response(status_code=400)
        try:
            inbound = read_update(update, me, time.time())
        except ValueError as error:
            # Telegram would repeat it for a day, and it would be no better.
            log.warning("Telegram update %d is left out: %s", update["update_id"], error)
            return Response(status_code=200)
        if inbound is not None:
            await self.context.inbox.store(inbound)
        return Response(status_code=200)

    def _make_reception(self) -> Reception:
        if self._settings.mode == "polling":
            return Polling(self._api, self._id, self.context.inbox)
        if self.context.public_url is None:
            raise SettingsError(
                "public_url: is needed for channels.telegram.mode webhook; set it or use polling"
            )
        secret = self.context.credentials["telegram-secret-token"]
        if not SECRET_TOKEN.match(secret):
            raise SettingsError("credential telegram-secret-token: should be 1–256 of A–Z a–z 0–9 _ -")
        if not self._settings.registers_webhook:
            return RegisteredElsewhere(self._api, self.context.inbox)
        return WebhookRegistration(
            self._api,
            self.context.inbox,
            url=self.context.public_url + WEBHOOK_PATH,
            secret_token=secret,
            max_connections=self._settings.max_connections,
            certificate=self._settings.upload_certificate,
        )


def _outcome(refusal: TelegramRefusal) -> RetryLater | Undeliverable:
    """What a refusal of `sendMessage` means for the message."""
    if refusal.code in (401, 404):
        # The token is wrong or revoked: that is repaired by an operator, and then the message can go.
        log.error("%s: check the bot's token", refusal)
        return RetryLater(str(refusal), after=REFUSED_TOKEN_WAIT)
    return Undeliverable(str(refusal))
