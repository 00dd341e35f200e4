"""The Telegram channel: webhook or long polling, `sendMessage`, drafts and "typing".

Source: https://core.telegram.org/bots/api (10.3).
"""

from __future__ import annotations

import hmac
import logging
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

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
    DeliveryUnknown,
    PacedKind,
    RetryLater,
    StreamGone,
    Streaming,
    Undeliverable,
)
from clawd_runtime.bot.channels.telegram import formatting
from clawd_runtime.bot.channels.telegram.api import TelegramApi, TelegramRefusal
from clawd_runtime.bot.channels.telegram.formatting import MESSAGE_UNITS
from clawd_runtime.bot.channels.telegram.pieces import unfinished
from clawd_runtime.bot.channels.telegram.progress import NUMBER, TelegramProgress, place_of
from clawd_runtime.bot.channels.telegram.reception import (
    Polling,
    Reception,
    RegisteredElsewhere,
    WebhookRegistration,
)
from clawd_runtime.bot.channels.telegram.updates import TelegramIdentity, is_update, read_update
from clawd_runtime.bot.foreign_json import Foreign, ForeignJsonError, Int64, read_as, read_json
from clawd_runtime.bot.text.splitting import split
from clawd_runtime.bot.values import ChatKind, Content, ConversationKey, Inbound, Piece, Reply, SentRef, Shown
from clawd_runtime.errors import SettingsError

log = logging.getLogger(__name__)

NOT_MODIFIED = "message is not modified"
# The parameters of a message that name a place within its chat.
PLACE = frozenset({"message_thread_id", "reply_parameters"})
# The names of that place in refusals (400): "message thread not found", "TOPIC_CLOSED", "message to be
# replied not found".
OF_THE_PLACE = re.compile(r"thread|topic|\brepl(?:y|ied)\b|reply_|\bmessage_id_invalid|msg_id_invalid")
WEBHOOK_PATH = "/telegram/webhook"
SECRET_HEADER = "x-telegram-bot-api-secret-token"  # noqa: S105  the header's name
TOKEN = re.compile(r"^(\d+):[A-Za-z0-9_-]+$")
SECRET_TOKEN = re.compile(r"^[A-Za-z0-9_-]{1,256}$")
REFUSED_TOKEN_WAIT = 60.0
# Telegram allows one message a second in a chat, 20 a minute in a group, and 30 a second in all, edits
# included. Requests take unequally long to arrive.
A_SECOND_IN_A_CHAT = 1 / 1.2
A_SECOND_IN_A_GROUP = 0.24
ALL_CHATS = Bucket("all", 10, 18.0, reserved=5)
GROUP_EDITS_EVERY = 4.0
PRIVATE_EDITS_EVERY = 2.0


class TelegramSettings(ChannelSettings):
    """The settings. `upload_certificate` is the PEM file of a certificate without a public authority.

    Telegram has one webhook per bot: of several hosts with the same token, one `registers_webhook`.
    """

    mode: Literal["webhook", "polling"] = "webhook"
    api_base: Annotated[str, Field(pattern=r"^https?://[^/].*$")] = "https://api.telegram.org"
    upload_certificate: Path | None = None
    registers_webhook: bool = True
    max_connections: Annotated[int, Field(ge=1, le=100)] = 40


class SentMessage(Foreign):
    """The result of `sendMessage`."""

    message_id: Int64


class TelegramChannel(Channel):
    """The channel of one Telegram bot."""

    name = "telegram"
    is_chat = True
    Settings: ClassVar[type[ChannelSettings]] = TelegramSettings

    def __init__(self, settings: TelegramSettings, context: ChannelContext) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._token = context.credentials["telegram-token"]
        if not (matched := TOKEN.match(self._token)):
            raise SettingsError(
                "credential telegram-token: not a bot token such as 123456:ABC…",
                advice="copy it from BotFather",
            )
        self._id = int(matched[1])
        self._api = TelegramApi(context.http, settings.api_base, self._token, context.outbound)
        self._progress = TelegramProgress(self._api)
        self._reception = self._make_reception()

    @classmethod
    def credentials(cls, settings: Any) -> tuple[str, ...]:
        """Return the names of the credentials; the public webhook requires its secret token."""
        if settings.mode == "webhook":
            return ("telegram-token", "telegram-secret-token")
        return ("telegram-token",)

    def routes(self) -> Sequence[BaseRoute]:
        """Return the route of the webhook; none with polling."""
        if self._settings.mode == "polling":
            return ()
        return (Route(WEBHOOK_PATH, self._webhook, methods=["POST"]),)

    async def run(self) -> None:
        """Poll, or keep the webhook registered, if this bot is responsible for it."""
        await self._reception.run()

    def split(self, text: str) -> tuple[str, ...]:
        """See `Channel.split`."""
        return split(text, MESSAGE_UNITS)

    def formatted(self, markdown: str, notes: str = "") -> tuple[Content, ...]:
        """See `Channel.formatted`."""
        return formatting.formatted(markdown, notes) or super().formatted(markdown, notes)

    async def send(self, reply: Reply) -> SentRef:
        """Send one message.

        If the topic or the message to reply to is gone, send it to the chat; if the group was migrated, send
        it to the new one; if the entities are refused, send it as plain text. A refused message has certainly
        not arrived. A reply that has been growing is completed by an edit.
        """
        if reply.shown is not None:
            return await self._complete(reply, reply.shown.ref)
        message = _message(reply)
        while True:
            try:
                sent = await self._api.call("sendMessage", message)
            except TelegramRefusal as refusal:
                if (other := _elsewhere(message, refusal)) is not None:
                    log.info("%s; sending to the chat instead", refusal)
                elif (other := _plain(message, refusal)) is not None:
                    log.warning("%s; sending without formatting instead", refusal)
                else:
                    raise _outcome(refusal) from None
                message = other
            else:
                return _reference(sent)

    def pace(self, conversation: ConversationKey, chat_kind: ChatKind, call: PacedKind) -> tuple[Bucket, ...]:
        """See `Channel.pace`. Changes count like new messages."""
        chat = Bucket(f"chat {conversation.chat}", 1, A_SECOND_IN_A_CHAT, of_chat=True)
        group = Bucket(f"group {conversation.chat}", 5, A_SECOND_IN_A_GROUP, reserved=2, of_chat=True)
        return (chat, *((group,) if chat_kind == "group" else ()), ALL_CHATS)

    def streaming(self, inbound: Inbound) -> Streaming | None:
        """See `Channel.streaming`. In private chats, drafts show the answer."""
        drafted = inbound.chat_kind == "private" and self._progress.drafts_work
        return Streaming(
            PRIVATE_EDITS_EVERY if inbound.chat_kind == "private" else GROUP_EDITS_EVERY, drafted
        )

    async def open(self, inbound: Inbound, shown: Shown, piece: Piece) -> str:
        """See `Channel.open`."""
        place = place_of(inbound.conversation)
        if place is None:
            raise Undeliverable("Telegram sendMessage: not a chat id")
        message = place | _answering(inbound.reply_to) | unfinished(piece)
        return _reference(await self._api.call("sendMessage", message)).id

    async def update(self, inbound: Inbound, shown: Shown, piece: Piece) -> None:
        """See `Channel.update`."""
        await self._edit(inbound.conversation, shown.ref, unfinished(piece))

    async def _edit(self, conversation: ConversationKey, ref: str, message: dict[str, Any]) -> None:
        """Change the text of a message of the bot. Raise like `TelegramApi.call`."""
        chat = (place_of(conversation) or {}).get("chat_id")
        if chat is None or not ref.isdecimal():
            raise StreamGone("Telegram editMessageText: not a message")
        try:
            await self._api.call("editMessageText", {"chat_id": chat, "message_id": int(ref), **message})
        except TelegramRefusal as refusal:
            if NOT_MODIFIED not in refusal.description.lower():
                raise

    async def _complete(self, reply: Reply, ref: str) -> SentRef:
        """Complete the message in which an answer was shown; without formatting if that is refused."""
        message: dict[str, Any] = {"text": reply.text}
        if entities := formatting.stored_entities(reply.formatting):
            message["entities"] = entities
        try:
            try:
                await self._edit(reply.conversation, ref, message)
            except TelegramRefusal as refusal:
                if (plain := _plain(message, refusal)) is None:
                    raise
                log.warning("%s; completing without formatting instead", refusal)
                await self._edit(reply.conversation, ref, plain)
        except TelegramRefusal as refusal:
            if refusal.code in (401, 404):
                raise _outcome(refusal) from None
            raise StreamGone(str(refusal)) from None
        return SentRef(ref)

    async def received(self, inbound: Inbound) -> None:
        """See `Channel.received`; with a webhook, its response has already shown "typing"."""
        if self._settings.mode == "polling":
            await self._progress.received(inbound)

    async def waiting(self, inbound: Inbound, notice: Callable[[], str]) -> None:
        """See `Channel.waiting`."""
        await self._progress.waiting(inbound, notice)

    @asynccontextmanager
    async def answering(self, inbound: Inbound) -> AsyncIterator[AnswerProgress]:
        """Show the growing answer in private chats, "typing" in other chats."""
        async with self._progress.shown(inbound) as progress:
            yield progress

    async def _webhook(self, request: Request) -> Response:
        given = request.headers.get(SECRET_HEADER, "").encode()
        if not hmac.compare_digest(given, self.context.credentials["telegram-secret-token"].encode()):
            self.context.rejections.report(
                self.name, "secret", "Telegram: refused a request: wrong secret token"
            )
            return Response(status_code=401)
        me = self._reception.identity
        if me is None:
            # Telegram will repeat it; whether the bot is mentioned in a group is unknown without its name.
            return Response(status_code=503, headers={"Retry-After": "5"})
        inbound = self._readable(await request.body(), me)
        if inbound is None or not await self.context.inbox.store(inbound) or not inbound.addressed:
            return Response(status_code=200)
        # The response may contain a call: the user sees "typing" immediately, without another request.
        return JSONResponse(
            {"method": "sendChatAction", "action": "typing"} | (place_of(inbound.conversation) or {})
        )

    def _readable(self, body: bytes, me: TelegramIdentity) -> Inbound | None:
        """Return the message of an update; None if it has none or cannot be read.

        An unreadable update is acknowledged nevertheless: Telegram would repeat it for a day without a
        different result, and block the chat.
        """
        number = "without a number"
        try:
            update = read_json(body)
            number = str(update["update_id"]) if is_update(update) else number
            return read_update(update, me, time.time())
        except ForeignJsonError as problem:
            message = f"Telegram: ignored unreadable update {number}: {problem}"
            self.context.rejections.report(self.name, "unreadable", message)
        except Exception:
            # Repeated for a day, the update would only block the chat.
            log.exception("internal error: Telegram: ignored update %s", number)
        return None

    def _make_reception(self) -> Reception:
        if self._settings.mode == "polling":
            return Polling(self._api, self._id, self.context.inbox, self.context.rejections)
        if self.context.public_url is None:
            raise SettingsError(
                "public_url: required for channels.telegram.mode webhook; set it or use polling"
            )
        secret = self.context.credentials["telegram-secret-token"]
        if not SECRET_TOKEN.match(secret):
            raise SettingsError("credential telegram-secret-token: must be 1–256 of A–Z a–z 0–9 _ -")
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


def _message(reply: Reply) -> dict[str, Any]:
    """Return the parameters of `sendMessage`; raise `Undeliverable` if the chat is not a Telegram chat."""
    place = place_of(reply.conversation)
    if place is None:
        raise Undeliverable(f"Telegram sendMessage: {reply.conversation.chat[:40]!a} is not a chat id")
    message: dict[str, Any] = place | {"text": reply.text}
    if entities := formatting.stored_entities(reply.formatting):
        message["entities"] = entities
    return message | (_answering(reply.reply_to) if reply.part == 0 else {})


def _answering(reply_to: str) -> dict[str, Any]:
    """Return the parameter that names the message to reply to."""
    if not NUMBER.fullmatch(reply_to):
        return {}
    return {"reply_parameters": {"message_id": int(reply_to), "allow_sending_without_reply": True}}


def _elsewhere(message: dict[str, Any], refusal: TelegramRefusal) -> dict[str, Any] | None:
    """Return the message for another place after a refusal; None if there is no such place."""
    if refusal.migrated_to is not None:
        moved = message | {"chat_id": refusal.migrated_to}
        return moved if moved != message else None
    reason = refusal.description.lower()
    placed = PLACE & message.keys()
    if refusal.code != 400 or not placed or not OF_THE_PLACE.search(reason):
        return None
    return {name: value for name, value in message.items() if name not in placed}


def _plain(message: dict[str, Any], refusal: TelegramRefusal) -> dict[str, Any] | None:
    """Return the message without entities if they may be why it was refused; None if it has none.

    Telegram does not document the descriptions of such refusals.
    """
    entities = message.get("entities")
    if refusal.code != 400 or not entities:
        return None
    without = {name: value for name, value in message.items() if name != "entities"}
    return without | {"text": formatting.without_entities(message["text"], entities)}


def _reference(sent: object) -> SentRef:
    try:
        return SentRef(str(read_as(SentMessage, sent).message_id))
    except ForeignJsonError:
        raise DeliveryUnknown("Telegram sendMessage: no message_id in the response") from None


def _outcome(refusal: TelegramRefusal) -> RetryLater | Undeliverable:
    """Return the delivery error for a refusal of `sendMessage`."""
    if refusal.code in (401, 404):
        # The token is wrong or revoked: when an operator has fixed that, the message can be sent.
        log.error("%s; hint: check the bot's token", refusal)
        return RetryLater(str(refusal), after=REFUSED_TOKEN_WAIT)
    return Undeliverable(str(refusal))
