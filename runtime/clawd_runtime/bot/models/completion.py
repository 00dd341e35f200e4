"""A client of the OpenAI chat protocol (`POST /chat/completions`, streamed as server-sent events)."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from clawd_runtime.bot.models.address import host_of, model_address
from clawd_runtime.bot.models.chat_chunks import (
    Chunk,
    CountedTokens,
    Cut,
    EventReader,
    MalformedChunk,
    read_whole,
)
from clawd_runtime.bot.models.dialect import ChatMessage, Dialect, RequestOrigin
from clawd_runtime.bot.models.failures import (
    ConnectionLost,
    ContentFiltered,
    ContextTooLong,
    ModelFailure,
    ModelHung,
    ModelRefused,
    ModelUnavailable,
    RequestRejected,
)
from clawd_runtime.bot.models.provider_errors import LARGEST_BODY, ProviderError, read_error
from clawd_runtime.bot.models.separation import End, Habit, OutputPiece, Separator
from clawd_runtime.bot.settings import ModelEndpoint
from clawd_runtime.bot.text.turn_markers import plain_markers

log = logging.getLogger(__name__)

# The engine sends nothing until it has a free slot and has computed the prompt: `answering` decides how long
# to wait for a token.
TIMEOUT = httpx.Timeout(connect=5.0, read=1800.0, write=15.0, pool=30.0)
PROBE_SECONDS = 5.0
LARGEST_ANSWER = 4 * 1024 * 1024
"""Maximum size of an unstreamed answer in bytes."""
MOST_ADAPTATIONS = 4
REJECTED = (400, 413, 422)
FILTERED = (200, *REJECTED, 403, 451)
"""Statuses of errors that may be from a content filter; 200 is an error within an answer."""
MOST_UNKNOWN = 50

Health = Literal["ready", "loading", "down"]


class ModelClient:
    """A model behind an endpoint. `name` is its name in the settings: `default` or `fallback`."""

    def __init__(
        self, name: str, endpoint: ModelEndpoint, http: httpx.AsyncClient, api_key: str | None = None
    ) -> None:
        self.name = name
        self.context_size = endpoint.context_size
        self.first_token_seconds = endpoint.first_token_seconds
        self.token_gap_seconds = endpoint.token_gap_seconds
        self._model = endpoint.model
        self._http = http
        self._address = model_address(name, endpoint.endpoint)
        # Without compression: tokens arrive as soon as they are drawn, and a small answer cannot grow here.
        self._headers = {"Accept-Encoding": "identity", **self._address.headers(api_key)}
        self._dialect = Dialect(
            temperature=endpoint.temperature, usage=self._address.local, origin=self._address.local
        )
        self._fruitless: set[str] = set()
        self._habit: Habit = "separates" if self.local else "unknown"
        self._unknown: set[str] = set()

    @property
    def label(self) -> str:
        """Return its name for people: that of its server, if it has one."""
        return self.name if self._model == "default" else self._model

    @property
    def local(self) -> bool:
        """Return whether it is served by an engine on this host."""
        return self._address.local

    @property
    def streams(self) -> bool:
        """Return whether its answers are streamed."""
        return self._dialect.stream

    async def stream(
        self, messages: Sequence[ChatMessage], max_tokens: int, origin: RequestOrigin | None = None
    ) -> AsyncGenerator[OutputPiece | End, None]:
        """Yield the answer, piece by piece, and its end. Raise a `ModelFailure`, possibly after some pieces.

        A parameter that the server names in a refusal is left out; if that helps, also from later requests.
        """
        if not self.local:
            # The local engine does this itself, for the marks of its own model.
            messages = [_plain(message) for message in messages]
        dialect = self._dialect
        tried: list[str] = []
        while True:
            try:
                request = dialect.request(self._model, messages, max_tokens, origin)
                async with aclosing(self._ask(request)) as pieces:
                    async for piece in pieces:
                        self._learn(dialect, tried)
                        yield piece
                return
            except _Refusal as refusal:
                adapted = self._adapted(dialect, refusal.error, tried)
                if adapted is None:
                    self._fruitless.update(tried)
                    raise self._failure(refusal) from None
                name, dialect = adapted
                tried.append(name)

    async def health(self) -> Health:
        """Return whether its server responds, and the model is not loading (`/health` of our engine)."""
        try:
            response = await self._http.get(
                self._address.health, headers=self._headers, timeout=PROBE_SECONDS
            )
            if response.status_code < 500:
                return "ready"
            loading = self.local and response.status_code == 503 and response.json()["status"] == "loading"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, LookupError, TypeError, RecursionError):
            return "down"
        return "loading" if loading else "down"

    async def measured(self) -> httpx.Response | None:
        """Return the response with the metrics of its engine; `None` if that is not on this host.

        Raises `httpx.HTTPError`.
        """
        if self._address.metrics is None:
            return None
        return await self._http.get(self._address.metrics, timeout=PROBE_SECONDS)

    async def alive(self) -> bool:
        """Return whether its server responds without a server error."""
        return await self.health() == "ready"

    def _adapted(
        self, dialect: Dialect, error: ProviderError, tried: Sequence[str]
    ) -> tuple[str, Dialect] | None:
        """Return the dialect without the refused parameter; `None` if that did not help just before."""
        if error.status not in REJECTED or error.about_context or len(tried) >= MOST_ADAPTATIONS:
            return None
        adapted = dialect.after(error)
        return None if adapted is None or adapted[0] in self._fruitless else adapted

    def _learn(self, dialect: Dialect, tried: list[str]) -> None:
        self._fruitless.clear()
        if tried:
            self._dialect = dialect
            log.warning("model %s: does not accept %s; omitting it from now on", self.name, ", ".join(tried))
            tried.clear()

    async def _ask(self, request: Mapping[str, Any]) -> AsyncGenerator[OutputPiece | End, None]:
        address = self._address.completions
        try:
            async with self._http.stream(
                "POST", address, json=request, headers=self._headers, timeout=TIMEOUT
            ) as response:
                if response.status_code != 200:
                    body = await _beginning(response, LARGEST_BODY)
                    raise _Refusal(read_error(response.status_code, body), retry_after(response))
                async with aclosing(self._answer(response)) as pieces:
                    async for piece in pieces:
                        yield piece
        except httpx.InvalidURL:
            raise ModelRefused(f"model {self.name}: endpoint is not a valid address") from None
        except (httpx.ReadTimeout, httpx.WriteTimeout) as error:
            raise ModelHung(f"model {self.name}: {type(error).__name__}") from None
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            raise ConnectionLost(f"model {self.name}: {type(error).__name__}") from None
        except httpx.HTTPError as error:
            raise ModelUnavailable(f"model {self.name}: {type(error).__name__}") from None
        except MalformedChunk as error:
            raise ModelUnavailable(
                f"model {self.name}: invalid answer in the OpenAI chat protocol: {error}"
            ) from None

    async def _answer(self, response: httpx.Response) -> AsyncGenerator[OutputPiece | End, None]:
        separator = Separator(self._habit)
        finish: Literal["complete"] | Cut | None = None
        counted: int | None = None
        tokens: CountedTokens | None = None
        started = False
        async with aclosing(_chunks(response)) as chunks:
            async for chunk in chunks:
                if chunk == "done":
                    finish = finish or "complete"
                    break
                self._note_unknown(chunk.unknown)
                if chunk.error is not None:
                    raise self._failed_within(chunk.error, started=started)
                if piece := separator.feed(chunk):
                    started = started or bool(piece.text)
                    yield piece
                counted = chunk.reasoning_tokens if chunk.reasoning_tokens is not None else counted
                tokens = chunk.tokens or tokens
                finish = chunk.finish or finish
        if piece := separator.finish(complete=finish == "complete"):
            yield piece
        if finish is None or finish == "broken":
            raise ModelUnavailable(f"model {self.name}: answer ended prematurely")
        self._habit = separator.habit
        yield End(None if finish == "complete" else finish, counted, tokens)

    def _failed_within(self, error: ProviderError, *, started: bool) -> Exception:
        """Return the exception for an error within an answer; before its first text, a refusal."""
        if started:
            return ModelUnavailable(f"model {self.name}: failed while answering{_named(error)}")
        return _Refusal(error, None)

    def _note_unknown(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._unknown and len(self._unknown) < MOST_UNKNOWN:
                self._unknown.add(name)
                log.warning("model %s: ignoring %s, which is not supported (logged once)", self.name, name)

    def _failure(self, refusal: _Refusal) -> ModelFailure:
        error = refusal.error
        what = f"model {self.name}: HTTP {error.status}{_named(error)}"
        if error.about_credit:
            return ModelRefused(what)
        if error.status in REJECTED:
            if error.about_length:
                return ContextTooLong(what)
            return ContentFiltered(what) if error.about_content else RequestRejected(what)
        if error.status in FILTERED and error.about_content:
            return ContentFiltered(what)
        if error.about_context and (error.status >= 500 or error.status == 429):
            return ContextTooLong(what)
        if error.about_length and error.status == 200:
            return ContextTooLong(what)
        if error.status in (200, 408, 409, 425, 429) or error.status >= 500:
            return ModelUnavailable(what, refusal.after)
        return ModelRefused(what)


class _Refusal(Exception):
    """An error of a server, before it is classified for the question."""

    def __init__(self, error: ProviderError, after: float | None) -> None:
        super().__init__()
        self.error = error
        self.after = after


async def _chunks(response: httpx.Response) -> AsyncGenerator[Chunk | Literal["done"], None]:
    """Yield the parts of an answer, streamed or not."""
    if response.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        for chunk in read_whole(await _beginning(response, LARGEST_ANSWER)):
            yield chunk
        return
    reader = EventReader()
    async for piece in response.aiter_bytes():
        for chunk in reader.feed(piece):
            yield chunk
    for chunk in reader.finish():
        yield chunk


async def _beginning(response: httpx.Response, most: int) -> bytes:
    body = bytearray()
    async for piece in response.aiter_bytes():
        body += piece
        if len(body) >= most:
            break
    return bytes(body[:most])


def _plain(message: ChatMessage) -> ChatMessage:
    if message.role == "system":
        return message
    return replace(message, content=plain_markers(message.content))


def _named(error: ProviderError) -> str:
    return f" {error.code}" if error.code else ""


def socket_mounts(endpoints: Sequence[tuple[str, ModelEndpoint]]) -> dict[str, httpx.AsyncBaseTransport]:
    """Return transports for the endpoints that are Unix sockets, keyed by the address in `ModelClient`."""
    addresses = [(name, model_address(name, endpoint.endpoint)) for name, endpoint in endpoints]
    return {
        # Without certificates: httpx would load the whole store for each, and there is no TLS here.
        f"all://{host_of(name)}": httpx.AsyncHTTPTransport(
            verify=False,
            uds=address.socket,
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=8),
        )
        for name, address in addresses
        if address.socket
    }


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds in a `Retry-After` header, which is a number or a date (RFC 9110, 10.2.3)."""
    value = response.headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
