"""A client of the Feishu open platform, with the app's access token."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import quote

import httpx
from pydantic import Field

from clawd_runtime.bot.channels.base import (
    DeliveryUnknown,
    OutboundTexts,
    RateLimited,
    RetryLater,
    UncheckedTexts,
    seconds_of,
)
from clawd_runtime.bot.channels.feishu.content import read_content
from clawd_runtime.bot.channels.feishu.events import Mentions
from clawd_runtime.bot.foreign_json import (
    Foreign,
    ForeignJsonError,
    ForeignName,
    ForeignText,
    Identifier,
    read_as,
    read_json,
)
from clawd_runtime.bot.values import Quote
from clawd_runtime.errors import ChannelError

SECONDS = 20.0
# After these errors nothing was sent; after any other connection error that is unknown.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
TOKEN_INVALID = frozenset({99991661, 99991663, 99991664, 99991668})
# Rate limits, and errors that an operator fixes in the developer console: the bot ability is not switched on,
# the app is not enabled, a permission is missing.
LIMITS = frozenset({99991400, 99991403, 230020, 11232})
LIMITS_OF_CHATS = frozenset({230020, 11232})
OPERATORS = frozenset({230006, 230027, 99991662, 99991672})
BEING_SENT = 230049
# The message to reply to is recalled, deleted or not visible, or the topic is gone; the chat still exists.
PLACE_GONE = frozenset({230011, 230019, 230050, 230071, 230110, 231003})
INVALID_PARAMETER = 230001
# The platform issues another token when less than 30 minutes remain, and both are valid then.
RENEW_BEFORE_SECONDS = 300.0


class FeishuResponse(Foreign):
    """The response to a call; further fields depend on the endpoint."""

    code: Annotated[int, Field(ge=-(2**31), lt=2**63)]
    msg: ForeignText = ""


class FeishuAccessToken(Foreign):
    """An access token with the seconds for which it is valid."""

    tenant_access_token: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,4096}$")]
    expire: Annotated[int, Field(ge=0, le=366 * 24 * 3600)]


class BotInfo(Foreign):
    """The identity of the bot."""

    open_id: Identifier


class Sent(Foreign):
    """A sent message."""

    message_id: ForeignName = ""


class Reaction(Foreign):
    """An emoji reaction to a message."""

    reaction_id: Identifier


class LookedUpBody(Foreign):
    """The body of a fetched message."""

    content: ForeignText


class LookedUp(Foreign):
    """A fetched message."""

    msg_type: ForeignName
    body: LookedUpBody | None = None
    deleted: bool = False
    mentions: Mentions | None = None


class FeishuRefusal(ChannelError):
    """Feishu responded with a `code` other than 0, and a retry does not help."""

    def __init__(self, what: str, code: int, text: str) -> None:
        super().__init__(f"Feishu {what}: {code} {text[:200]}")
        self.code = code
        self.text = text

    @property
    def place_is_gone(self) -> bool:
        """Return whether it concerns the message to reply to or its topic, but not the chat."""
        invalid = self.code == INVALID_PARAMETER and "message_id" in self.text
        return invalid or self.code in PLACE_GONE


class OperatorNeeded(RetryLater):
    """Feishu refuses the call until an operator changes the app in the developer console."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A message to send. `content` is JSON, of the form that belongs to `kind`."""

    kind: Literal["text", "interactive"]
    content: str


class FeishuApi:
    """The client of one app. `base` is `https://open.feishu.cn` or a server of the same protocol."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        base: str,
        app_id: str,
        app_secret: str,
        clock: Callable[[], float] = time.monotonic,
        outbound: OutboundTexts | None = None,
    ) -> None:
        self._http = http
        self._base = f"{base.rstrip('/')}/open-apis"
        self._credentials = {"app_id": app_id, "app_secret": app_secret}
        self._outbound = outbound or UncheckedTexts()
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()

    async def bot_open_id(self) -> str:
        """Return the id with which messages mention the bot. Raise like `call`."""
        answer = await self.call("GET", "/bot/v3/info")
        try:
            return read_as(BotInfo, answer.get("bot")).open_id
        except ForeignJsonError:
            raise ChannelError("Feishu /bot/v3/info: no open_id in the response") from None

    async def reply(self, message_id: str, message: Outgoing, uuid: str) -> str:
        """Reply to a message and return the id of the reply. Raise like `call`.

        The platform sends once per `uuid` (at most 50 characters) within an hour.
        """
        body = {"msg_type": message.kind, "content": message.content, "uuid": uuid}
        answer = await self.call("POST", f"{_message(message_id)}/reply", body)
        return _sent(answer)

    async def send_to_chat(self, chat_id: str, message: Outgoing, uuid: str) -> str:
        """Send a message to a chat, not as a reply, and return its id. `uuid` and errors are like `reply`."""
        body = {"receive_id": chat_id, "msg_type": message.kind, "content": message.content, "uuid": uuid}
        answer = await self.call("POST", "/im/v1/messages?receive_id_type=chat_id", body)
        return _sent(answer)

    async def content(self, message_id: str, bot_open_id: str | None) -> Quote:
        """Fetch a message. Raise like `call`, or `ChannelError` if it cannot be read."""
        answer = await self.call("GET", _message(message_id))
        try:
            items: Any = (answer.get("data") or {}).get("items")
            found = read_as(LookedUp, items[0])
            if found.body is None or found.deleted:
                raise ChannelError("Feishu: message deleted")
            mentions = tuple(each.as_mention() for each in found.mentions or ())
            content = read_content(found.msg_type, found.body.content, mentions, bot_open_id)
        except (ForeignJsonError, AttributeError, LookupError, TypeError) as problem:
            raise ChannelError(f"Feishu: unreadable message: {problem}") from None
        return Quote(content.text, tuple(content.parts))

    async def react(self, message_id: str, emoji: str) -> str:
        """Add an emoji reaction to a message and return the id of the reaction. Raise like `call`."""
        body = {"reaction_type": {"emoji_type": emoji}}
        answer = await self.call("POST", f"{_message(message_id)}/reactions", body)
        try:
            return read_as(Reaction, answer.get("data")).reaction_id
        except ForeignJsonError:
            raise ChannelError("Feishu reactions: no reaction_id in the response") from None

    async def take_back(self, message_id: str, reaction_id: str) -> None:
        """Remove an emoji reaction. Raise like `call`."""
        await self.call("DELETE", f"{_message(message_id)}/reactions/{quote(reaction_id, safe='')}")

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call an endpoint and return its JSON; renew an expired token once.

        Raise `FeishuRefusal` if Feishu refuses the call, `RetryLater` if it certainly had no effect and may
        be repeated (no connection, a rate limit), and `DeliveryUnknown` if it may have had an effect.
        """
        body = None if body is None else self._outbound.value(dict(body))
        token = await self._valid_token()
        response = await self._send(method, path, body, token)
        if _code(response) in TOKEN_INVALID:
            self._forget(token)
            response = await self._send(method, path, body, await self._valid_token())
            if _code(response) in TOKEN_INVALID:
                raise RetryLater(f"Feishu {path}: new access token refused too")
        return _checked(path, response)

    async def _valid_token(self) -> str:
        async with self._renewing:
            if self._clock() >= self._renew_at:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        path = "/auth/v3/tenant_access_token/internal"
        requested_at = self._clock()
        try:
            answer = _checked(path, await self._send("POST", path, self._credentials))
            token = read_as(FeishuAccessToken, answer)
        except (ChannelError, ForeignJsonError) as fault:
            # The caller's own request has certainly not been sent, even if this call had an effect.
            expected = isinstance(fault, ChannelError)
            why = str(fault) if expected else f"Feishu {path}: no token in the response"
            raise RetryLater(why, after=getattr(fault, "after", None)) from None
        self._token, seconds = token.tenant_access_token, token.expire
        self._renew_at = requested_at + max(seconds - RENEW_BEFORE_SECONDS, seconds / 2)

    def _forget(self, token: str) -> None:
        if self._token == token:
            self._renew_at = 0.0

    async def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None, token: str | None = None
    ) -> httpx.Response:
        headers = {"Content-Type": "application/json; charset=utf-8"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        try:
            return await self._http.request(
                method,
                f"{self._base}{path}",
                content=None if body is None else _json(body).encode("utf-8", "replace"),
                headers=headers,
                timeout=httpx.Timeout(SECONDS, connect=10.0),
            )
        except NOT_SENT as fault:
            raise RetryLater(f"Feishu {path}: {type(fault).__name__}") from None
        except httpx.HTTPError as fault:
            raise DeliveryUnknown(f"Feishu {path}: {type(fault).__name__}") from None


def text_message(text: str) -> Outgoing:
    """Return a text message."""
    return Outgoing("text", _json({"text": text}))


def size_in_request(text: str) -> int:
    """Return the bytes of `text` in the body of a request, where its JSON is encoded as JSON again."""
    return len(_json(_json(text)).encode("utf-8", "replace")) - len(_json(_json("")))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _message(message_id: str) -> str:
    return f"/im/v1/messages/{quote(message_id, safe='')}"


def _sent(answer: Mapping[str, Any]) -> str:
    try:
        return read_as(Sent, answer.get("data") or {}).message_id
    except ForeignJsonError:
        return ""


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = read_json(response.content)
    except ForeignJsonError:
        return {}
    return body if isinstance(body, dict) else {}


def _answered(response: httpx.Response) -> FeishuResponse | None:
    try:
        return read_as(FeishuResponse, _body(response))
    except ForeignJsonError:
        return None


def _code(response: httpx.Response) -> int | None:
    answered = _answered(response)
    return answered.code if answered else None


def _checked(path: str, response: httpx.Response) -> dict[str, Any]:
    answered = _answered(response)
    code = answered.code if answered else None
    outcome = f"Feishu {path}: HTTP {response.status_code}, code {code}"
    if code in OPERATORS:
        raise OperatorNeeded(f"{outcome}; hint: fix it in the developer console", after=_seconds(response))
    if response.status_code == 429 or code in LIMITS:
        raise RateLimited(outcome, after=_seconds(response), whole=code not in LIMITS_OF_CHATS)
    if response.status_code >= 500 or answered is None or code == BEING_SENT:
        raise DeliveryUnknown(outcome)
    if answered.code != 0:
        raise FeishuRefusal(path, answered.code, answered.msg)
    return _body(response)


def _seconds(response: httpx.Response) -> float | None:
    for name in ("x-ogw-ratelimit-reset", "retry-after"):
        if (value := response.headers.get(name, "")).isdecimal():
            return seconds_of(value)
    return None
