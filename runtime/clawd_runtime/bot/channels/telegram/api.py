"""A client of the Telegram Bot API (https://core.telegram.org/bots/api#making-requests).

The bot's token is part of every address, so errors and logs never contain addresses.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

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
from clawd_runtime.bot.foreign_json import Foreign, ForeignJsonError, ForeignText, Int64, read_as, read_json
from clawd_runtime.errors import ChannelError

SECONDS = 20.0
WITH_A_SECRET = ("setWebhook",)
"""Methods that give Telegram a credential."""
# After these errors nothing was sent; after any other connection error that is unknown.
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)


class Parameters(Foreign):
    """The parameters of a refusal."""

    migrate_to_chat_id: Int64 | None = None
    retry_after: Any = None


class TelegramResponse(Foreign):
    """The response to a call."""

    ok: bool
    result: Any = None
    error_code: Annotated[int, Field(ge=0, lt=1000)] | None = None
    description: ForeignText = ""
    parameters: Parameters | None = None


class TelegramRefusal(ChannelError):
    """Telegram responded with `ok: false`. `code` is its error code."""

    def __init__(self, method: str, code: int, description: str, migrated_to: int | None = None) -> None:
        super().__init__(f"Telegram {method}: {code} {description[:200]}")
        self.code = code
        self.description = description
        self.migrated_to = migrated_to


class TelegramApi:
    """The client of one bot. `base` is `https://api.telegram.org` or a server of the same protocol."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        base: str,
        token: str,
        outbound: OutboundTexts | None = None,
    ) -> None:
        self._http = http
        self._outbound = outbound or UncheckedTexts()
        self._base = f"{base.rstrip('/')}/bot{token}"

    async def call(
        self,
        method: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        upload: tuple[str, bytes] | None = None,
        seconds: float = SECONDS,
    ) -> Any:
        """Call a method and return its result. `upload` is a file, as parameter name and content.

        Raise `TelegramRefusal` if Telegram refuses the call, `RetryLater` if it certainly had no effect and
        may be repeated (no connection, 429), and `DeliveryUnknown` if it may have had an effect.
        """
        try:
            response = await self._post(method, self._checked(method, parameters or {}), upload, seconds)
        except NOT_SENT as fault:
            raise RetryLater(f"Telegram {method}: {type(fault).__name__}") from None
        except httpx.HTTPError as fault:
            raise DeliveryUnknown(f"Telegram {method}: {type(fault).__name__}") from None
        return _result(method, response)

    def _checked(self, method: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return dict(parameters if method in WITH_A_SECRET else self._outbound.value(dict(parameters)))

    async def _post(
        self, method: str, parameters: dict[str, Any], upload: tuple[str, bytes] | None, seconds: float
    ) -> httpx.Response:
        timeout = httpx.Timeout(seconds, connect=10.0)
        address = f"{self._base}/{method}"
        if upload is None:
            return await self._http.post(address, json=parameters, timeout=timeout)
        name, content = upload
        fields = {
            key: value if isinstance(value, str) else json.dumps(value) for key, value in parameters.items()
        }
        files = {name: (f"{name}.pem", content, "application/x-pem-file")}
        return await self._http.post(address, data=fields, files=files, timeout=timeout)


def _result(method: str, response: httpx.Response) -> Any:
    try:
        answer = read_as(TelegramResponse, read_json(response.content))
    except ForeignJsonError:
        code = response.status_code
        outcome = f"Telegram {method}: {code} not a response of the Bot API"
        if 400 <= code < 500:
            # An intermediary (a proxy, a relay at `api_base`) refused it: Telegram has not received it.
            raise RetryLater(outcome, after=_seconds(None, response)) from None
        raise DeliveryUnknown(outcome) from None
    if answer.ok:
        return answer.result
    code = answer.error_code if answer.error_code is not None else response.status_code
    parameters = answer.parameters or Parameters()
    if code == 429:
        raise RateLimited(f"Telegram {method}: 429", after=_seconds(parameters.retry_after, response))
    if code >= 500 or code < 400:
        raise DeliveryUnknown(f"Telegram {method}: {code} {answer.description[:200]}")
    raise TelegramRefusal(method, code, answer.description, parameters.migrate_to_chat_id)


def _seconds(value: object, response: httpx.Response) -> float | None:
    return seconds_of(value if value is not None else response.headers.get("retry-after"))
