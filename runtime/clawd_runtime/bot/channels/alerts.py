"""Alerts of Prometheus' Alertmanager, forwarded to chats of the other channels.

Alertmanager posts to `/alerts` with a bearer token. A notification is handled like any event: stored before
it is acknowledged, deduplicated when it is repeated, and sent through the outbox. It is announced, not
answered: as messages of the bot in a Telegram or Feishu chat, or through a custom bot of a Feishu group.

Source for the custom bot: https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
from pydantic import Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.alerts import AlertLanguage, Notification, event_id, text_of
from clawd_runtime.bot.channels.base import (
    Channel,
    ChannelContext,
    ChannelSettings,
    DeliveryUnknown,
    RetryLater,
    Undeliverable,
    seconds_of,
)
from clawd_runtime.bot.foreign_json import ForeignJsonError, read_json
from clawd_runtime.bot.text.splitting import split
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply, SentRef
from clawd_runtime.errors import SettingsError

TOKEN = "alerts-token"  # noqa: S105  a credential's name
WEBHOOK = "alerts-feishu-webhook"
SIGNING_SECRET = "alerts-feishu-secret"  # noqa: S105  a credential's name
CUSTOM_BOT = "feishu-custom-bot"
"""The chat of this channel that represents the custom bot."""
LARGEST_TEXT = 20 * 1024 - 1024
SECONDS = 20.0
LONGEST_FIELD = 60
MOST_PROBLEMS = 5
TOO_FAST = frozenset({9499, 11232})
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


class AlertsSettings(ChannelSettings):
    """The recipients. With `custom_bot`, the address of a Feishu group's custom bot is a credential."""

    language: AlertLanguage = "en"
    telegram_chat: int | None = None
    feishu_chat: str | None = Field(None, pattern=r"^oc_[A-Za-z0-9_]+$")
    custom_bot: bool = False
    custom_bot_signs: bool = False


class AlertsChannel(Channel):
    """The channel that receives notifications of Alertmanager."""

    name = "alerts"
    announces = True
    Settings = AlertsSettings

    def __init__(
        self, settings: AlertsSettings, context: ChannelContext, clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(settings, context)
        self._settings = settings
        self._clock = clock
        self._token = context.credentials[TOKEN]
        self._places = _places(settings)
        if not self._places:
            raise SettingsError("channels.alerts: no recipient; set telegram_chat, feishu_chat or custom_bot")
        if settings.custom_bot and not context.credentials[WEBHOOK].startswith(("https://", "http://")):
            raise SettingsError(f"credential {WEBHOOK}: not the address of a custom bot")

    @classmethod
    def credentials(cls, settings: Any) -> tuple[str, ...]:
        """Return the names of Alertmanager's token and of the custom bot's credentials."""
        custom = (WEBHOOK, *((SIGNING_SECRET,) if settings.custom_bot_signs else ()))
        return (TOKEN, *(custom if settings.custom_bot else ()))

    def routes(self) -> Sequence[BaseRoute]:
        """Return `POST /alerts`, which nginx does not forward."""
        return (Route("/alerts", self._receive, methods=["POST"]),)

    def announced_to(self, inbound: Inbound) -> Sequence[ConversationKey]:
        """Return all configured chats."""
        return self._places

    def split(self, text: str) -> tuple[str, ...]:
        """Split into the size of a custom bot's requests, 20 KB."""
        return split(text, LARGEST_TEXT, lambda part: len(part.encode("utf-8", "replace")))

    async def send(self, reply: Reply) -> SentRef:
        """Post to the custom bot, which has no idempotency key and returns no message id."""
        if not self._settings.custom_bot or reply.conversation.chat != CUSTOM_BOT:
            raise Undeliverable("no custom bot of Feishu is configured")
        try:
            response = await self.context.http.post(
                self.context.credentials[WEBHOOK],
                json=self.context.outbound.value(self._body(reply.text)),
                timeout=SECONDS,
            )
        except NOT_SENT as fault:
            raise RetryLater(f"Feishu's custom bot: {type(fault).__name__}") from None
        except httpx.HTTPError as fault:
            raise DeliveryUnknown(f"Feishu's custom bot: {type(fault).__name__}") from None
        _check(response)
        return SentRef("")

    def _body(self, text: str) -> dict[str, Any]:
        body: dict[str, Any] = {"msg_type": "text", "content": {"text": text}}
        if self._settings.custom_bot_signs:
            stamp = str(int(self._clock()))
            body |= {"timestamp": stamp, "sign": signature(stamp, self.context.credentials[SIGNING_SECRET])}
        return body

    async def _receive(self, request: Request) -> Response:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        proven = hmac.compare_digest(token.strip().encode(), self._token.encode())
        if scheme.lower() != "bearer" or not proven:
            self.context.rejections.report(self.name, "token", "alerts: refused a request: wrong token")
            return JSONResponse(
                {"message": "authentication failed: wrong token"}, 401, {"WWW-Authenticate": "Bearer"}
            )
        try:
            notification = Notification.model_validate_json(await request.body())
        except ValidationError as error:
            # Alertmanager does not retry after this status, and a retry would not help.
            problems = error.errors(include_url=False, include_input=False, include_context=False)
            wrong = sorted({".".join(map(str, problem["loc"]))[:LONGEST_FIELD] for problem in problems})
            reason = f"not a notification of version 4: {', '.join(wrong[:MOST_PROBLEMS])}"
            self.context.rejections.report(self.name, "unreadable", f"alerts: refused a request: {reason}")
            return JSONResponse({"message": reason}, 400)
        new = await self.context.inbox.store(self._inbound(notification))
        return JSONResponse({"new": new})

    def _inbound(self, notification: Notification) -> Inbound:
        id = event_id(notification)
        return Inbound(
            event_id=id,
            message_id=id,
            conversation=ConversationKey(self.name, "alertmanager"),
            chat_kind="group",
            user="alertmanager",
            text=text_of(notification, self._settings.language),
            addressed=True,
            reply_to="",
            received_at=self._clock(),
        )


def signature(timestamp: str, secret: str) -> str:
    """Return the signature that a custom bot verifies: HMAC-SHA256 of an empty text, keyed by both."""
    digest = hmac.new(f"{timestamp}\n{secret}".encode(), b"", hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def _places(settings: AlertsSettings) -> tuple[ConversationKey, ...]:
    places = []
    if settings.telegram_chat is not None:
        places.append(ConversationKey("telegram", str(settings.telegram_chat)))
    if settings.feishu_chat is not None:
        places.append(ConversationKey("feishu", settings.feishu_chat))
    if settings.custom_bot:
        places.append(ConversationKey("alerts", CUSTOM_BOT))
    return tuple(places)


def _check(response: httpx.Response) -> None:
    """Raise a `DeliveryError` unless the custom bot has accepted the message."""
    try:
        body = read_json(response.content)
    except ForeignJsonError:
        body = {}
    code = body.get("code", body.get("StatusCode")) if isinstance(body, dict) else None
    code = code if isinstance(code, int) and abs(code) < 2**63 else None
    outcome = f"Feishu's custom bot: HTTP {response.status_code}, code {code}"
    if response.status_code == 429 or code in TOO_FAST:
        raise RetryLater(outcome, after=seconds_of(response.headers.get("retry-after")))
    if response.status_code >= 500 or not isinstance(code, int):
        raise DeliveryUnknown(outcome)
    if code != 0:
        raise Undeliverable(outcome)
