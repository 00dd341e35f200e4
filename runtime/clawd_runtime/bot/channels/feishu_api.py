"""Calls of the Feishu open platform, with the app's access token."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from urllib.parse import quote

import httpx
from pydantic import Field

from clawd_runtime.bot.channels.base import DeliveryUnknown, RetryLater, seconds_of
from clawd_runtime.bot.channels.feishu_content import read_content
from clawd_runtime.bot.channels.feishu_events import Mentions
from clawd_runtime.bot.foreign_json import Foreign, Identifier, Name, Text, Unreadable, read_as, read_json
from clawd_runtime.bot.values import Quote
from clawd_runtime.errors import ChannelError

SECONDS = 20.0
# With these nothing has been sent yet; with any other fault of the connection that is not known.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
TOKEN_INVALID = frozenset({99991661, 99991663, 99991664, 99991668})
# Frequency limits, and what an operator repairs in the developer console: a bot whose ability is still to be
# switched on, an app that is not enabled, a permission that is missing.
LIMITS = frozenset({99991400, 99991403, 230020, 11232})
OPERATORS = frozenset({230006, 230027, 99991662, 99991672})
BEING_SENT = 230049
# The message to reply to is recalled, deleted or not visible; the topic is gone. The chat is not.
PLACE_GONE = frozenset({230011, 230019, 230050, 230071, 230110, 231003})
INVALID_PARAMETER = 230001
# The platform issues another token when less than 30 minutes remain, and both are valid then.
RENEW_BEFORE_SECONDS = 300.0


class Answered(Foreign):
    """What Feishu answers a call with; further fields are the endpoint's own."""

    code: Annotated[int, Field(ge=-(2**31), lt=2**63)]
    msg: Text = ""


class Token(Foreign):
    """An access token, and for how many seconds it is valid."""

    tenant_access_token: Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,4096}$")]
    expire: Annotated[int, Field(ge=0, le=366 * 24 * 3600)]


class BotInfo(Foreign):
    """Who the bot is."""

    open_id: Identifier


class Sent(Foreign):
    """A message that was sent."""

    message_id: Name = ""


class Reaction(Foreign):
    """An emoji put to a message."""

    reaction_id: Identifier


class LookedUpBody(Foreign):
    """Where a message that was looked up has its content."""

    content: Text


class LookedUp(Foreign):
    """A message that was looked up."""

    msg_type: Name
    body: LookedUpBody | None = None
    deleted: bool = False
    mentions: Mentions | None = None


class FeishuRefusal(ChannelError):
    """Feishu answered with a `code` other than 0 that waiting will not change."""

    def __init__(self, what: str, code: int, said: str) -> None:
        super().__init__(f"Feishu {what}: {code} {said[:200]}")
        self.code = code
        self.said = said

    @property
    def place_is_gone(self) -> bool:
        """Whether it is of the message to reply to, or of its topic, and not of the chat."""
        invalid = self.code == INVALID_PARAMETER and "message_id" in self.said
        return invalid or self.code in PLACE_GONE


class OperatorNeeded(RetryLater):
    """What is refused until an operator changes the app in the developer console."""


class FeishuApi:
    """One app. `base` is `https://open.feishu.cn` or a server of the same protocol."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        base: str,
        app_id: str,
        app_secret: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._http = http
        self._base = f"{base.rstrip('/')}/open-apis"
        self._credentials = {"app_id": app_id, "app_secret": app_secret}
        self._clock = clock
        self._token = ""
        self._renew_at = 0.0
        self._renewing = asyncio.Lock()

    async def bot_open_id(self) -> str:
        """The id under which messages mention the bot. Raises as `call` does."""
        answer = await self.call("GET", "/bot/v3/info")
        try:
            return read_as(BotInfo, answer.get("bot")).open_id
        except Unreadable:
            raise ChannelError("Feishu /bot/v3/info: no open_id in the answer") from None

    async def reply(self, message_id: str, text: str, uuid: str) -> str:
        """Answer a message with a text and return the id of the answer.

        Within an hour the same `uuid` (at most 50 characters) sends once. Raises as `call` does.
        """
        body = {"msg_type": "text", "content": text_content(text), "uuid": uuid}
        answer = await self.call("POST", f"{_message(message_id)}/reply", body)
        return _sent(answer)

    async def tell(self, chat_id: str, text: str, uuid: str) -> str:
        """Send a text to a chat, in answer to nothing, and return its id. `uuid` and errors as of `reply`."""
        body = {"receive_id": chat_id, "msg_type": "text", "content": text_content(text), "uuid": uuid}
        answer = await self.call("POST", "/im/v1/messages?receive_id_type=chat_id", body)
        return _sent(answer)

    async def content(self, message_id: str, bot_open_id: str | None) -> Quote:
        """Look a message up. Raise as `call` does, or `ChannelError` when it cannot be read."""
        answer = await self.call("GET", _message(message_id))
        try:
            items: Any = (answer.get("data") or {}).get("items")
            found = read_as(LookedUp, items[0])
            if found.body is None or found.deleted:
                raise ChannelError("Feishu: the message is deleted")
            mentions = tuple(each.as_mention() for each in found.mentions or ())
            content = read_content(found.msg_type, found.body.content, mentions, bot_open_id)
        except (Unreadable, AttributeError, LookupError, TypeError) as problem:
            raise ChannelError(f"Feishu: a message that cannot be read: {problem}") from None
        return Quote(content.text, tuple(content.parts))

    async def react(self, message_id: str, emoji: str) -> str:
        """Put an emoji to a message and return the id by which it is taken away. Raise as `call` does."""
        body = {"reaction_type": {"emoji_type": emoji}}
        answer = await self.call("POST", f"{_message(message_id)}/reactions", body)
        try:
            return read_as(Reaction, answer.get("data")).reaction_id
        except Unreadable:
            raise ChannelError("Feishu reactions: an answer without reaction_id") from None

    async def take_back(self, message_id: str, reaction_id: str) -> None:
        """Take an emoji away. Raise as `call` does."""
        await self.call("DELETE", f"{_message(message_id)}/reactions/{quote(reaction_id, safe='')}")

    async def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call an endpoint and return its JSON; a token that has ended is renewed once.

        Raises `FeishuRefusal`; `RetryLater` when the call certainly had no effect and may be repeated
        (no connection, a limit); `DeliveryUnknown` when it may have had one.
        """
        token = await self._valid_token()
        response = await self._send(method, path, body, token)
        if _code(response) in TOKEN_INVALID:
            self._forget(token)
            response = await self._send(method, path, body, await self._valid_token())
            if _code(response) in TOKEN_INVALID:
                raise RetryLater(f"Feishu {path}: a new access token is refused too")
        return _checked(path, response)

    async def _valid_token(self) -> str:
        async with self._renewing:
            if self._clock() >= self._renew_at:
                await self._renew()
            return self._token

    async def _renew(self) -> None:
        path = "/auth/v3/tenant_access_token/internal"
        asked_at = self._clock()
        try:
            answer = _checked(path, await self._send("POST", path, self._credentials))
            token = read_as(Token, answer)
        except (ChannelError, Unreadable) as fault:
            # Nothing of the caller's has been sent, whatever became of this call.
            why = str(fault) if isinstance(fault, ChannelError) else f"Feishu {path}: no token in the answer"
            raise RetryLater(why, after=getattr(fault, "after", None)) from None
        self._token, seconds = token.tenant_access_token, token.expire
        self._renew_at = asked_at + max(seconds - RENEW_BEFORE_SECONDS, seconds / 2)

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


def text_content(text: str) -> str:
    """The `content` of a text message."""
    return _json({"text": text})


def size_in_request(text: str) -> int:
    """Bytes that `text` takes in the body of a request, where its JSON is a string of JSON again."""
    return len(_json(_json(text)).encode("utf-8", "replace")) - len(_json(_json("")))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _message(message_id: str) -> str:
    return f"/im/v1/messages/{quote(message_id, safe='')}"


def _sent(answer: Mapping[str, Any]) -> str:
    try:
        return read_as(Sent, answer.get("data") or {}).message_id
    except Unreadable:
        return ""


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = read_json(response.content)
    except Unreadable:
        return {}
    return body if isinstance(body, dict) else {}


def _answered(response: httpx.Response) -> Answered | None:
    try:
        return read_as(Answered, _body(response))
    except Unreadable:
        return None


def _code(response: httpx.Response) -> int | None:
    answered = _answered(response)
    return answered.code if answered else None


def _checked(path: str, response: httpx.Response) -> dict[str, Any]:
    answered = _answered(response)
    code = answered.code if answered else None
    said = f"Feishu {path}: HTTP {response.status_code}, code {code}"
    if code in OPERATORS:
        raise OperatorNeeded(f"{said}: to be repaired in the developer console", after=_seconds(response))
    if response.status_code == 429 or code in LIMITS:
        raise RetryLater(said, after=_seconds(response))
    if response.status_code >= 500 or answered is None or code == BEING_SENT:
        raise DeliveryUnknown(said)
    if answered.code != 0:
        raise FeishuRefusal(path, answered.code, answered.msg)
    return _body(response)


def _seconds(response: httpx.Response) -> float | None:
    for name in ("x-ogw-ratelimit-reset", "retry-after"):
        if (value := response.headers.get(name, "")).isdecimal():
            return seconds_of(value)
    return None
