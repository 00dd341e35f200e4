"""Calls of the Feishu open platform, with the app's access token."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from clawd_runtime.bot.channels.base import DeliveryUnknown, RetryLater
from clawd_runtime.errors import ChannelError

SECONDS = 20.0
SHORTEST_WAIT = 1.0
# With these nothing has been sent yet; with any other fault of the connection that is not known.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)
TOKEN_INVALID = frozenset({99991661, 99991663, 99991664, 99991668})
# Frequency limits, and a bot whose ability is still to be switched on in the developer console.
BACK_OFF = frozenset({99991400, 99991403, 230020, 11232, 230006})
BEING_SENT = 230049
# The platform issues another token when less than 30 minutes remain, and both are valid then.
RENEW_BEFORE_SECONDS = 300.0


class FeishuRefusal(ChannelError):
    """Feishu answered with a `code` other than 0 that waiting will not change."""

    def __init__(self, what: str, code: int, said: str) -> None:
        super().__init__(f"Feishu {what}: {code} {said}")
        self.code = code


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
            return str(answer["bot"]["open_id"])
        except (LookupError, TypeError):
            raise ChannelError("Feishu /bot/v3/info: no open_id in the answer") from None

    async def reply(self, message_id: str, text: str, uuid: str) -> str:
        """Answer a message with a text and return the id of the answer.

        Within an hour the same `uuid` (at most 50 characters) sends once. Raises as `call` does.
        """
        body = {"msg_type": "text", "content": text_content(text), "uuid": uuid}
        answer = await self.call("POST", f"/im/v1/messages/{message_id}/reply", body)
        return str((answer.get("data") or {}).get("message_id", ""))

    async def tell(self, chat_id: str, text: str, uuid: str) -> str:
        """Send a text to a chat, in answer to nothing, and return its id. `uuid` and errors as of `reply`."""
        body = {"receive_id": chat_id, "msg_type": "text", "content": text_content(text), "uuid": uuid}
        answer = await self.call("POST", "/im/v1/messages?receive_id_type=chat_id", body)
        return str((answer.get("data") or {}).get("message_id", ""))

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
            token, seconds = str(answer["tenant_access_token"]), float(answer["expire"])
        except (ChannelError, LookupError, TypeError, ValueError) as fault:
            # Nothing of the caller's has been sent, whatever became of this call.
            why = str(fault) if isinstance(fault, ChannelError) else f"Feishu {path}: no token in the answer"
            raise RetryLater(why, after=getattr(fault, "after", None)) from None
        self._token = token
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


def _body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _code(response: httpx.Response) -> int | None:
    code = _body(response).get("code")
    return code if isinstance(code, int) else None


def _checked(path: str, response: httpx.Response) -> dict[str, Any]:
    code, body = _code(response), _body(response)
    said = f"Feishu {path}: HTTP {response.status_code}, code {code}"
    if response.status_code == 429 or code in BACK_OFF:
        raise RetryLater(said, after=_seconds(response))
    if response.status_code >= 500 or code is None or code == BEING_SENT:
        raise DeliveryUnknown(said)
    if code != 0:
        raise FeishuRefusal(path, code, str(body.get("msg", "")))
    return body


def _seconds(response: httpx.Response) -> float | None:
    for name in ("x-ogw-ratelimit-reset", "retry-after"):
        if (value := response.headers.get(name, "")).isdecimal():
            return max(SHORTEST_WAIT, float(value))
    return None
