"""The Feishu (Lark) channel: events by webhook, answers as replies to the message.

An event is authentic if its signature over the raw body is valid and recent, it can be decrypted, and it
contains the app's verification token and id. Only the challenge of a request URL is unsigned; it must be
decrypted, contain the token, and has no effect.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.buckets import Bucket
from clawd_runtime.bot.channels.base import (
    AnswerProgress,
    Channel,
    ChannelContext,
    ChannelSettings,
    NoProgress,
    PacedKind,
    Streaming,
)
from clawd_runtime.bot.channels.feishu.api import (
    FeishuApi,
    OperatorNeeded,
    size_in_request,
    text_message,
)
from clawd_runtime.bot.channels.feishu.cards import formatted
from clawd_runtime.bot.channels.feishu.crypto import (
    Unauthentic,
    is_signed,
    open_envelope,
    same,
    verify_signature,
)
from clawd_runtime.bot.channels.feishu.delivery import FeishuDelivery, without_mentions
from clawd_runtime.bot.channels.feishu.events import (
    MESSAGE_RECEIVED,
    is_addressable_group,
    kind_of,
    read_message,
)
from clawd_runtime.bot.channels.feishu.growing_cards import CardRef, GrowingCards
from clawd_runtime.bot.foreign_json import Foreign, ForeignJsonError, ForeignName, read_as
from clawd_runtime.bot.handling.backoff import backoff
from clawd_runtime.bot.handling.pace import Pace
from clawd_runtime.bot.text.splitting import split
from clawd_runtime.bot.values import (
    ChatKind,
    Content,
    ConversationKey,
    Inbound,
    Piece,
    Quote,
    Reply,
    SentRef,
    Shown,
    reply_key,
)
from clawd_runtime.errors import ChannelError

log = logging.getLogger(__name__)

LARGEST_EVENT = 1 << 20
# Only a challenge is unsigned, and it is short: foreign clients must not be able to keep the bot decrypting.
LARGEST_UNSIGNED = 8192
# Feishu waits three seconds for the acknowledgement of an event.
IDENTITY_SECONDS = 2.0
LONGEST_PAUSE = 60.0
# The request of a text message may have 150 KB; its other fields take less than half a kilobyte.
LARGEST_TEXT = 150 * 1024 - 512
# Feishu allows an app 50 calls of an endpoint per second: reactions and notices leave most of them to
# answers.
SIGNS_A_SECOND = 40.0
NOTICES_A_SECOND = 15.0
RECEIVED_EMOJI = "Typing"
CHALLENGE = "url_verification"
# A number that no part of an answer has.
NOTICE_PART = -1
PIECES_EVERY = 1.5


# Feishu repeats an event that was not acknowledged after 15 s, 5 min, 1 h and 6 h, and its documentation does
# not say that it signs it again: with a limit of minutes, events would be lost in any longer outage. The
# longer limit does not weaken the protection against replays: the signature covers the event's id, and a
# genuine event that is sent again within these hours is found in the inbox, which keeps ids for
# `KEEP_SECONDS` (7 days) after a message was handled. This limit must stay below that one. Challenges and
# events that are not messages have no effect that could be repeated.
MAX_EVENT_AGE = 8 * 3600.0
LONGEST_EVENT_AGE = 6 * 24 * 3600.0


class FeishuSettings(ChannelSettings):
    """The settings. `max_event_age` is how many seconds old the signature of an event may be."""

    app_id: str = Field(pattern=r"^cli_[A-Za-z0-9_]+$")
    api_base: str = Field("https://open.feishu.cn", pattern=r"^https?://[^/]")
    max_event_age: float = Field(MAX_EVENT_AGE, gt=0, le=LONGEST_EVENT_AGE)

    @property
    def language(self) -> str | None:
        """Return the language of a message without text (`/help`, a picture); events do not specify it."""
        host = urlsplit(self.api_base).hostname or ""
        return "zh" if host.endswith(".feishu.cn") else None


class Challenge(Foreign):
    """The challenge that Feishu sends to a new request URL."""

    challenge: ForeignName


class FeishuChannel(Channel):
    """The channel of one app of the open platform."""

    name = "feishu"
    is_chat = True
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
        self._api = FeishuApi(
            context.http, settings.api_base, settings.app_id, secret, outbound=context.outbound
        )
        self._open_id: str | None = None
        self._signs = Pace(SIGNS_A_SECOND)
        self._notices = Pace(NOTICES_A_SECOND)
        self._cards = GrowingCards(self._api)
        self._delivery = FeishuDelivery(self._api, self._cards)
        self._has_cards = True
        self._reacts = True
        # The reactions that acknowledge a message, by event, until it is answered.
        self._reactions: dict[str, str] = {}
        self._hiding: set[asyncio.Task[None]] = set()

    @classmethod
    def credentials(cls, settings: Any) -> tuple[str, ...]:
        """Return the names of all three secrets; without the key, events could not be authenticated."""
        return ("feishu-app-secret", "feishu-encrypt-key", "feishu-verification-token")

    def routes(self) -> Sequence[BaseRoute]:
        """Return `POST /feishu/webhook`."""
        return (Route("/feishu/webhook", self._receive, methods=["POST"]),)

    async def run(self) -> None:
        """Fetch the bot's own id, which identifies mentions of it, then return."""
        failures = 0
        while self._open_id is None:
            try:
                await self._identity()
            except ChannelError as fault:
                failures += 1
                pause = min(backoff(failures), LONGEST_PAUSE)
                log.warning("%s; retrying in %.0f s", fault, pause)
                await asyncio.sleep(pause)

    def split(self, text: str) -> tuple[str, ...]:
        """See `Channel.split`."""
        harmless = without_mentions(text)
        if size_in_request(harmless) <= LARGEST_TEXT:
            return (harmless,)
        return split(harmless, LARGEST_TEXT, size_in_request)

    def formatted(self, markdown: str, notes: str = "") -> tuple[Content, ...]:
        """See `Channel.formatted`."""
        return formatted(without_mentions(markdown), notes) or super().formatted(markdown, notes)

    async def send(self, reply: Reply) -> SentRef:
        """See `Channel.send`."""
        return await self._delivery.send(reply)

    def pace(self, conversation: ConversationKey, chat_kind: ChatKind, call: PacedKind) -> tuple[Bucket, ...]:
        """See `Channel.pace`. Feishu counts calls of each endpoint."""
        endpoint = (
            Bucket(f"{call} second", 25, 20.0, reserved=10),
            Bucket(f"{call} minute", 150, 14.0, reserved=50),
        )
        if call != "message":
            return endpoint
        return (Bucket(f"chat {conversation.chat}", 2, 2.7, of_chat=True), *endpoint)

    def streaming(self, inbound: Inbound) -> Streaming | None:
        """See `Channel.streaming`."""
        return Streaming(PIECES_EVERY) if self._has_cards else None

    async def prepare(self, inbound: Inbound, piece: Piece) -> str:
        """See `Channel.prepare`: create the card, which is not visible until it is sent."""
        try:
            return str(await self._cards.create(_harmless(piece)))
        except OperatorNeeded as refusal:
            # Without the permission, every card would be refused: do not try again.
            self._has_cards = False
            raise ChannelError(f"{refusal}; growing cards are disabled until the bot restarts") from None

    async def open(self, inbound: Inbound, shown: Shown, piece: Piece) -> str:
        """See `Channel.open`."""
        return str(await self._delivery.opened(inbound, CardRef.read(shown.ref)))

    async def update(self, inbound: Inbound, shown: Shown, piece: Piece) -> None:
        """See `Channel.update`."""
        await self._cards.show(CardRef.read(shown.ref), shown.sequence, _harmless(piece))

    async def received(self, inbound: Inbound) -> None:
        """Add an emoji reaction to the message, since Feishu has no "typing"."""
        if self._reacts and inbound.reply_to and inbound.event_id not in self._reactions:
            await self._signs.turn()
            try:
                self._reactions[inbound.event_id] = await self._api.react(inbound.reply_to, RECEIVED_EMOJI)
            except OperatorNeeded as refusal:
                # Without the permission to react, every reaction would be refused: do not try again.
                self._reacts = False
                log.info("%s; reactions are disabled until the bot restarts", refusal)

    async def waiting(self, inbound: Inbound, notice: Callable[[], str]) -> None:
        """Reply with `notice` under a separate key: once within an hour, even after a restart."""
        await self._notices.turn()
        key = reply_key(self.name, inbound.event_id, NOTICE_PART)
        reply_to, text = inbound.reply_to, without_mentions(notice())
        await self._api.reply(reply_to, text_message(text), key)

    async def quoted(self, ref: str) -> Quote:
        """See `Channel.quoted`."""
        return await self._api.content(ref, self._open_id)

    @asynccontextmanager
    async def answering(self, inbound: Inbound) -> AsyncIterator[AnswerProgress]:
        """Show the emoji reaction while a model answers."""
        showing = asyncio.create_task(self._show(inbound))
        try:
            yield NoProgress()
        finally:
            self._hiding.add(hiding := asyncio.create_task(self._hide(inbound, showing)))
            hiding.add_done_callback(self._hiding.discard)

    async def close(self) -> None:
        """See `Channel.close`."""
        for task in tuple(self._hiding):
            task.cancel()
        await asyncio.gather(*self._hiding, return_exceptions=True)

    async def _show(self, inbound: Inbound) -> None:
        try:
            await self.received(inbound)
        except ChannelError as fault:
            log.info("%s", fault)

    async def _hide(self, inbound: Inbound, showing: asyncio.Task[None]) -> None:
        await asyncio.wait((showing,))
        reaction = self._reactions.pop(inbound.event_id, None)
        try:
            if reaction is not None:
                await self._api.take_back(inbound.reply_to, reaction)
        except ChannelError as fault:
            log.info("%s", fault)

    async def _receive(self, request: Request) -> Response:
        body = await _read(request)
        if body is None:
            return JSONResponse({"msg": "request too large"}, 413)
        try:
            event = self._authentic(request, body)
            if event.get("type") == CHALLENGE:
                return JSONResponse({"challenge": read_as(Challenge, event).challenge})
            return await self._store(event)
        except Unauthentic as reason:
            self._report(f"refused: {reason.kind}", f"Feishu: refused a request: {reason}")
            return JSONResponse({"msg": "authentication failed"}, 401)
        except ForeignJsonError as problem:
            # Acknowledged nevertheless: Feishu would repeat it for hours without a different result.
            self._report("unreadable", f"Feishu: ignored an unreadable event: {problem}")
            return JSONResponse({})

    def _report(self, kind: str, message: str) -> None:
        self.context.rejections.report(self.name, kind, message)

    def _authentic(self, request: Request, body: bytes) -> dict[str, Any]:
        """Return the event; raise `Unauthentic` if Feishu did not send it."""
        signed = is_signed(request.headers)
        if signed:
            age = self._settings.max_event_age
            verify_signature(self._encrypt_key, request.headers, body, now=self._clock(), max_age=age)
        elif len(body) > LARGEST_UNSIGNED:
            raise Unauthentic("request not signed, and too large for a challenge")
        try:
            event = open_envelope(self._encrypt_key, body)
        except ForeignJsonError:
            if signed:
                raise
            raise Unauthentic("event is not JSON") from None
        if event.get("type") == CHALLENGE:
            self._check_token(event.get("token"))
            return event
        if not signed:
            raise Unauthentic("event not signed")
        header = event.get("header")
        if event.get("schema") != "2.0" or not isinstance(header, dict):
            self._check_token(event.get("token"))
            raise ForeignJsonError("not of version 2")
        self._check_token(header.get("token"))
        if header.get("app_id") != self._settings.app_id:
            raise Unauthentic("event for another app")
        return event

    def _check_token(self, token: object) -> None:
        if not same(self._verification_token, token):
            raise Unauthentic("wrong verification token")

    async def _store(self, event: dict[str, Any]) -> Response:
        """Store the message before acknowledging it; ignore other events."""
        if self._open_id is None and is_addressable_group(event):
            try:
                async with asyncio.timeout(IDENTITY_SECONDS):
                    await self._identity()
            except (ChannelError, TimeoutError) as fault:
                log.warning(
                    "Feishu: cannot check mentions: the bot's own id is not known yet: %s",
                    fault or "no answer in time",
                )
                return JSONResponse({"msg": "not ready"}, 503)
        inbound = read_message(event, self._open_id, self._settings.language, self._clock())
        if inbound is not None:
            await self.context.inbox.store(inbound)
        elif (kind := kind_of(event)) != MESSAGE_RECEIVED:
            message = f"Feishu: ignored an event of type {kind[:80]!a}"
            self.context.rejections.report(self.name, "other event", message, logging.INFO)
        return JSONResponse({})

    async def _identity(self) -> None:
        self._open_id = await self._api.bot_open_id()


async def _read(request: Request) -> bytes | None:
    """Return the raw body; None if it is larger than any event."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_EVENT:
            return None
    return bytes(body)


def _harmless(piece: Piece) -> Piece:
    return replace(piece, text=without_mentions(piece.text))
