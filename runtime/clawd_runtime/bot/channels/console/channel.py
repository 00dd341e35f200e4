"""The console channel: the bot's own chat API, for `clawd-provision chat` and programs.

`POST /console/v1/messages` with a JWT (HS256) whose `sub` is the user. Body `{"text", "conversation", "id"}`;
`conversation` separates histories, `id` is an idempotency key: a repeated request gets the answer that is
being made or was stored. A token is for one request: it is accepted again only with the same body, including
`id`. The response is a stream of server-sent events: `waiting` `{"text"}` once if the message waits for
others, `delta` `{"text"}` for each piece, then `done` `{"text"}` with the whole answer, which is
authoritative, or `error` `{"message", "hint"}`. A refusal has an error status and the same two fields; `hint`
may be absent.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.channels.base import AnswerProgress, Channel, ChannelContext, ChannelSettings
from clawd_runtime.bot.channels.console.questions import Question, inbound_of, problems_of
from clawd_runtime.bot.channels.console.streams import (
    UNANSWERED,
    AnswerStreams,
    EventStreamResponse,
    Stream,
    sse,
)
from clawd_runtime.bot.channels.console.token import ConsoleToken, InvalidToken, token_of
from clawd_runtime.bot.values import Inbound, Reply, SentRef
from clawd_runtime.errors import SettingsError

SHORTEST_SECRET = 32


class ConsoleSettings(ChannelSettings):
    """The settings of the console. `page`: it also serves the page in the browser."""

    page: bool = False


class ConsoleChannel(Channel):
    """The console channel."""

    name = "console"
    Settings: ClassVar[type[ChannelSettings]] = ConsoleSettings
    idempotent_for = float("inf")

    def __init__(self, settings: ConsoleSettings, context: ChannelContext) -> None:
        super().__init__(settings, context)
        self._secret = context.credentials["console-jwt-secret"]
        if len(self._secret.encode()) < SHORTEST_SECRET:
            raise SettingsError(
                f"credential console-jwt-secret: too short: at least {SHORTEST_SECRET} bytes required"
            )
        self._streams = AnswerStreams(self.name)
        self._page_routes: Sequence[BaseRoute] = ()
        if settings.page:
            from clawd_runtime.bot.channels.console.page.routes import ConsolePage

            page = ConsolePage(self._secret, self._streams, lambda: self.context)
            self._page_routes = page.routes()

    @classmethod
    def credentials(cls, settings: Any) -> tuple[str, ...]:
        """Return the name of the key that signs the tokens."""
        return ("console-jwt-secret",)

    def routes(self) -> Sequence[BaseRoute]:
        """Return the route described in the module's documentation, and those of the page."""
        api = Route("/console/v1/messages", self._messages, methods=["POST"])
        return (api, *self._page_routes)

    async def send(self, reply: Reply) -> SentRef:
        """Pass the answer to the requests that wait for it; it stays stored for repeated requests."""
        for stream in self._streams.of(reply.event_id):
            stream.end("done", {"text": reply.text})
        return SentRef(reply.key)

    def left_unanswered(self, event_id: str) -> None:
        """See `Channel.left_unanswered`."""
        for stream in self._streams.of(event_id):
            stream.end("error", UNANSWERED)

    async def waiting(self, inbound: Inbound, notice: Callable[[], str]) -> None:
        """See `Channel.waiting`."""
        for stream in self._streams.of(inbound.event_id):
            stream.wait(notice())

    @asynccontextmanager
    async def answering(self, inbound: Inbound) -> AsyncIterator[AnswerProgress]:
        """Stream the answer."""
        yield _Broadcast(self._streams, inbound.event_id)

    async def close(self) -> None:
        """End the streams whose answers will not be made in this run."""
        self._streams.close()

    async def _messages(self, request: Request) -> Response:
        token = self._token(request)
        if token is None:
            return self._unauthorized("no valid bearer token")
        try:
            question = Question.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"message": problems_of(error)}, 422)
        inbound = inbound_of(token.user, question)
        use = await self.context.inbox.use_token(*_single_use(token, question), token.expires_at)
        if use == "full":
            self.context.rejections.report(
                self.name, "tokens", "console: refused a request: too many unexpired tokens"
            )
            return JSONResponse(
                {"message": "too many unexpired tokens", "hint": "use tokens with a shorter lifetime"}, 503
            )
        if use == "other" or (use == "same" and not question.id):
            return self._unauthorized("token already used", "make a new token for each request")
        stream = await self._streams.accept(self.context.inbox, inbound)
        return EventStreamResponse(
            self._answer(inbound, stream), leave=lambda: self._streams.leave(inbound, stream)
        )

    async def _answer(self, inbound: Inbound, stream: Stream) -> AsyncIterator[bytes]:
        sent = ""
        yield b": stored\n\n"
        async for event in self._streams.events(self.context.inbox, inbound, stream):
            if event.kind == "idle":
                yield b": working\n\n"
            elif event.kind != "growing":
                yield sse(event.kind, event.data)
            # A second attempt of the model may begin differently; then only the final event is right.
            elif event.text.startswith(sent) and event.text != sent:
                yield sse("delta", {"text": event.text[len(sent) :]})
                sent = event.text

    def _unauthorized(self, why: str, hint: str = "") -> Response:
        self.context.rejections.report(self.name, "token", f"console: refused a request: {why}")
        body = {"message": f"authentication failed: {why}"} | ({"hint": hint} if hint else {})
        return JSONResponse(body, 401, {"WWW-Authenticate": "Bearer"})

    def _token(self, request: Request) -> ConsoleToken | None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            return token_of(token.strip(), self._secret.encode(), time.time())
        except InvalidToken:
            return None


class _Broadcast:
    def __init__(self, streams: AnswerStreams, event_id: str) -> None:
        self._streams = streams
        self._event_id = event_id

    def show(self, text: str) -> None:
        for stream in self._streams.of(self._event_id):
            stream.grow(text)


def _single_use(token: ConsoleToken, question: Question) -> tuple[str, str]:
    """Return digests of the token and of the request it is used for, to store them."""
    asked = [token.user, question.conversation or "default", question.id, question.text]
    return _digest([token.user, token.id]), _digest(asked)


def _digest(values: list[str | None]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
