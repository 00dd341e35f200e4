"""Client of the OpenAI chat protocol (`POST /chat/completions`, streamed as server-sent events)."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from clawd_runtime.bot.settings import ModelEndpoint
from clawd_runtime.errors import RuntimeFault

# The engine answers nothing until it has a free slot and has read the prompt: the asker's patience decides.
TIMEOUT = httpx.Timeout(connect=5.0, read=300.0, write=15.0, pool=30.0)
LONGEST_LINE = 1024 * 1024
TOO_LONG = re.compile(r"context (length|size|window)|exceed_context_size", re.IGNORECASE)


class ModelFailure(RuntimeFault):
    """A model did not answer. The text names the model, never what was asked.

    ModelFailure
    ├── ModelUnavailable    it may answer when asked again
    ├── ModelRefused        asking again is of no use
    └── ContextTooLong      the prompt must be shorter
    """


class ModelUnavailable(ModelFailure):
    """It may answer when asked again, after `after` seconds when it said so."""

    def __init__(self, message: str, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class ModelRefused(ModelFailure):
    """Asking again is of no use (wrong key, unknown model)."""


class ContextTooLong(ModelFailure):
    """The prompt does not fit the model's context."""


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


class ChatModel:
    """A model behind an endpoint. `name` is ours for it: `default` or `fallback`."""

    def __init__(
        self, name: str, endpoint: ModelEndpoint, http: httpx.AsyncClient, api_key: str | None = None
    ) -> None:
        self.name = name
        self.context_size = endpoint.context_size
        self._model = endpoint.model
        self._sampling = {} if endpoint.temperature is None else {"temperature": endpoint.temperature}
        self._http = http
        self._base, self._health = _addresses(name, endpoint.endpoint)
        self.metrics_address = _metrics_address(name, endpoint.endpoint)
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}

    async def stream(self, messages: Sequence[ChatMessage], max_tokens: int) -> AsyncGenerator[str, None]:
        """The answer, piece by piece. Raises a `ModelFailure`, possibly after some pieces."""
        request = {
            "model": self._model,
            "messages": [{"role": message.role, "content": message.content} for message in messages],
            "max_tokens": max_tokens,
            "stream": True,
            **self._sampling,
        }
        try:
            async with self._http.stream(
                "POST",
                f"{self._base}/chat/completions",
                json=request,
                headers=self._headers,
                timeout=TIMEOUT,
            ) as response:
                if response.status_code != 200:
                    raise self._refusal(response, await response.aread())
                async with aclosing(_events(response)) as events, aclosing(self._pieces(events)) as pieces:
                    async for piece in pieces:
                        yield piece
        except httpx.HTTPError as error:
            raise ModelUnavailable(f"model {self.name}: {type(error).__name__}") from None

    async def alive(self) -> bool:
        """Whether its server answers at all."""
        try:
            response = await self._http.get(self._health, headers=self._headers, timeout=5.0)
        except httpx.HTTPError:
            return False
        return response.status_code < 500

    async def loading(self) -> bool:
        """Whether its server says that the model is on its way (our engine's `/health`)."""
        try:
            response = await self._http.get(self._health, headers=self._headers, timeout=5.0)
            return response.status_code == 503 and response.json().get("status") == "loading"
        except (httpx.HTTPError, ValueError, AttributeError):
            return False

    async def _pieces(self, events: AsyncIterator[str]) -> AsyncGenerator[str, None]:
        finished = False
        async for event in events:
            if event == "[DONE]":
                return
            piece, ended = self._piece(event)
            finished = finished or ended
            if piece:
                yield piece
        if not finished:
            raise ModelUnavailable(f"model {self.name}: the answer broke off")

    def _piece(self, event: str) -> tuple[str, bool]:
        try:
            chunk = json.loads(event)
            if chunk.get("error"):
                raise ModelUnavailable(f"model {self.name}: failed while answering")
            choices = chunk.get("choices") or ()
            if not choices:
                return "", False
            content = (choices[0].get("delta") or {}).get("content") or ""
            if not isinstance(content, str):
                raise TypeError
            return content, choices[0].get("finish_reason") is not None
        except (ValueError, TypeError, AttributeError, LookupError):
            raise ModelUnavailable(f"model {self.name}: does not speak the OpenAI chat protocol") from None

    def _refusal(self, response: httpx.Response, body: bytes) -> ModelFailure:
        status = response.status_code
        error = _error(body)
        code = _code(error)
        what = f"model {self.name}: HTTP {status}" + (f" {code}" if code else "")
        if code == "context_length_exceeded" or (status in (400, 413) and _tells_too_long(error)):
            return ContextTooLong(what)
        if status in (408, 409, 425, 429) or status >= 500:
            return ModelUnavailable(what, retry_after(response))
        return ModelRefused(what)


def socket_mounts(endpoints: Sequence[tuple[str, ModelEndpoint]]) -> dict[str, httpx.AsyncBaseTransport]:
    """Transports for the endpoints that are Unix sockets, by the address `ChatModel` uses for them."""
    return {
        # Without certificates: httpx would load a whole set of them for each, and there is no TLS here.
        f"all://{_host(name)}": httpx.AsyncHTTPTransport(
            verify=False,
            uds=endpoint.endpoint.removeprefix("unix:"),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
        )
        for name, endpoint in endpoints
        if endpoint.endpoint.startswith("unix:")
    }


def retry_after(response: httpx.Response) -> float | None:
    """Seconds of a `Retry-After` header, given as a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None


def _addresses(name: str, endpoint: str) -> tuple[str, str]:
    """Base address of the protocol, and an address that tells whether the server lives."""
    if endpoint.startswith("unix:"):
        return f"http://{_host(name)}/v1", f"http://{_host(name)}/health"
    base = endpoint.rstrip("/")
    return base, f"{base}/models"


def _metrics_address(name: str, endpoint: str) -> str | None:
    """Where the server tells its metrics; `None` of one that is not of this host."""
    return f"http://{_host(name)}/metrics" if endpoint.startswith("unix:") else None


def _host(name: str) -> str:
    return f"model-{name}.socket"


async def _events(response: httpx.Response) -> AsyncGenerator[str, None]:
    """The data of each server-sent event. (httpx's own lines also break at U+2028, which JSON may hold.)"""
    rest = b""
    async for piece in response.aiter_bytes():
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise httpx.RemoteProtocolError("a line without end")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip().decode("utf-8", "replace")


def _error(body: bytes) -> Mapping[str, Any]:
    """What a server says went wrong; some put it into `error`, some do not. Empty when it is no JSON."""
    try:
        told: Any = json.loads(body)
    except ValueError:
        return {}
    if not isinstance(told, dict):
        return {}
    inner = told.get("error")
    return inner if isinstance(inner, dict) else told


def _code(error: Mapping[str, Any]) -> str | None:
    named = (error.get("code"), error.get("type"))
    code = next((each for each in named if isinstance(each, str)), "")
    return code if code.replace("_", "").isalnum() else None


def _tells_too_long(error: Mapping[str, Any]) -> bool:
    """Whether it is the prompt's length: vLLM and llama.cpp say so in words only."""
    return any(TOO_LONG.search(str(error.get(name))) for name in ("message", "type", "code"))
