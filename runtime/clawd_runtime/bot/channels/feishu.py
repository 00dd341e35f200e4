"""Feishu (Lark): events by webhook, answers as replies to the message.

An event is believed when its signature over the raw body holds and is fresh, it decrypts, and it carries the
app's verification token and id. Only the challenge of a request address comes unsigned; it must decrypt and
carry the token, and has no effect.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.backoff import backoff
from clawd_runtime.bot.channels.base import Channel, ChannelContext, ChannelSettings, Undeliverable
from clawd_runtime.bot.channels.feishu_api import FeishuApi, FeishuRefusal, size_in_request
from clawd_runtime.bot.channels.feishu_crypto import (
    Unauthentic,
    is_signed,
    open_envelope,
    same,
    verify_signature,
)
from clawd_runtime.bot.channels.feishu_events import is_addressable_group, read_message
from clawd_runtime.bot.splitting import split
from clawd_runtime.bot.values import Reply, SentRef
from clawd_runtime.errors import ChannelError

log = logging.getLogger(__name__)

LARGEST_EVENT = 1 << 20
# Only a challenge comes unsigned, and it is short: strangers must not keep us decrypting.
LARGEST_UNSIGNED = 8192
# Feishu waits three seconds for the word that an event has arrived.
IDENTITY_SECONDS = 2.0
LONGEST_PAUSE = 60.0
# A text message's request may have 150 KB; what is not text in it stays below half a kilobyte.
LARGEST_TEXT = 150 * 1024 - 512
MENTION_TAG = re.compile(r"<(?=/?at\b)", re.IGNORECASE)


# Feishu repeats what was not taken after 15 s, 5 min, 1 h and 6 h, and no document says that it signs anew:
# an event that must not be older than minutes would be lost in any longer outage. The age is no protection
# that is missed: the signature covers the event's id, and who sends a genuine event again, whenever within
# these hours, finds it in the inbox, which keeps ids for `KEEP_SECONDS` (7 days) after a message was dealt
# with. The one must stay below the other. Events that are no messages, and challenges, have no effect to be
# repeated.
MAX_EVENT_AGE = 8 * 3600.0
LONGEST_EVENT_AGE = 6 * 24 * 3600.0


class FeishuSettings(ChannelSettings):
    """`max_event_age` is how many seconds old the signature of an event may be."""

    app_id: str = Field(pattern=r"^cli_[A-Za-z0-9_]+$")
    api_base: str = Field("https://open.feishu.cn", pattern=r"^https?://[^/]")
    max_event_age: float = Field(MAX_EVENT_AGE, gt=0, le=LONGEST_EVENT_AGE)

    @property
    def language(self) -> str | None:
        """What a writer speaks whose words do not tell (`/help`, a picture), since events do not either."""
        host = urlsplit(self.api_base).hostname or ""
        return "zh" if host.endswith(".feishu.cn") else None


class FeishuChannel(Channel):
    """One app of the open platform."""

    name = "feishu"
    Settings = FeishuSettings
    idempotent_for: ClassVar[float] = 3600.0

    def __init__(
        self, settings: FeishuSettings, context: ChannelContext, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._clock = clock
        self._encrypt_key = context.credentials["feishu-encrypt-key"]
        self._verification_token = context.credentials["feishu-verification-token"]
        secret = context.credentials["feishu-app-secret"]
        self._api = FeishuApi(context.http, settings.api_base, settings.app_id, secret)
        self._open_id: str | None = None

    @classmethod
    def credentials(cls, settings: Any) -> tuple[str, ...]:
        """All three are needed: without the key events could not be proven."""
        return ("feishu-app-secret", "feishu-encrypt-key", "feishu-verification-token")

    def routes(self) -> Sequence[BaseRoute]:
        """`POST /feishu/webhook`."""
        return (Route("/feishu/webhook", self._receive, methods=["POST"]),)

    async def run(self) -> None:
        """Learn the bot's own id, by which mentions of it are told; then there is nothing more to do."""
        failures = 0
        while self._open_id is None:
            try:
                await self._identity()
            except ChannelError as fault:
                failures += 1
                pause = min(backoff(failures), LONGEST_PAUSE)
                log.warning("%s: again in %.0f s", fault, pause)
                await asyncio.sleep(pause)

    def split(self, text: str) -> tuple[str, ...]:
        """See `Channel.split`."""
        harmless = _without_mentions(text)
        if size_in_request(harmless) <= LARGEST_TEXT:
            return (harmless,)
        return split(harmless, LARGEST_TEXT, size_in_request)

    async def send(self, reply: Reply) -> SentRef:
        """See `Channel.send`."""
        try:
            text = _without_mentions(reply.text)
            if reply.reply_to:
                sent = await self._api.reply(reply.reply_to, text, reply.key)
            else:
                sent = await self._api.tell(reply.conversation.chat, text, reply.key)
        except FeishuRefusal as refusal:
            raise Undeliverable(str(refusal)) from None
        return SentRef(sent)

    async def _receive(self, request: Request) -> Response:
        body = await _read(request)
        if body is None:
            return JSONResponse({"msg": "too large"}, 413)
        try:
            event = self._authentic(request, body)
        except Unauthentic as reason:
            log.warning("Feishu: refused a request: %s", reason)
            return JSONResponse({"msg": "unauthorized"}, 401)
        if event.get("type") == "url_verification":
            return JSONResponse({"challenge": event.get("challenge")})
        return await self._store(event)

    def _authentic(self, request: Request, body: bytes) -> dict[str, Any]:
        """The event, if Feishu sent it; raises `Unauthentic`."""
        signed = is_signed(request.headers)
        if signed:
            age = self._settings.max_event_age
            verify_signature(self._encrypt_key, request.headers, body, now=self._clock(), max_age=age)
        elif len(body) > LARGEST_UNSIGNED:
            raise Unauthentic("the request is not signed, and too large for a challenge")
        event = open_envelope(self._encrypt_key, body)
        if event.get("type") == "url_verification":
            self._check_token(event.get("token"))
            return event
        if not signed:
            raise Unauthentic("the event is not signed")
        header = event.get("header")
        if event.get("schema") != "2.0" or not isinstance(header, dict):
            raise Unauthentic("the event is not of version 2")
        self._check_token(header.get("token"))
        if header.get("app_id") != self._settings.app_id:
            raise Unauthentic("the event is for another app")
        return event

    def _check_token(self, token: object) -> None:
        if not same(self._verification_token, token):
            raise Unauthentic("the verification token is wrong")

    async def _store(self, event: dict[str, Any]) -> Response:
        """Store the message before saying that it has arrived; what is none needs no storing."""
        if self._open_id is None and is_addressable_group(event):
            try:
                async with asyncio.timeout(IDENTITY_SECONDS):
                    await self._identity()
            except (ChannelError, TimeoutError) as fault:
                log.warning("Feishu: cannot tell yet whether the bot is mentioned: %s", fault or "no answer")
                return JSONResponse({"msg": "not ready"}, 503)
        inbound = read_message(event, self._open_id, self._settings.language)
        if inbound is None:
            log.info("Feishu: passed over an event of type %.80s", event["header"].get("event_type"))
        else:
            await self.context.inbox.store(inbound)
        return JSONResponse({})

    async def _identity(self) -> None:
        self._open_id = await self._api.bot_open_id()


async def _read(request: Request) -> bytes | None:
    """The body as it came; None when it is larger than any event."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_EVENT:
            return None
    return bytes(body)


def _without_mentions(text: str) -> str:
    """Text in which `<at user_id="all">` stays text: a user could make the model notify everybody."""
    return MENTION_TAG.sub("<\u200b", text)
