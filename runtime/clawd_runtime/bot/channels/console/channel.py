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

import asyncio
import hashlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from clawd_runtime.bot.channels.base import AnswerProgress, Channel, ChannelContext, ChannelSettings
from clawd_runtime.bot.channels.console.token import ConsoleToken, InvalidToken, token_of
from clawd_runtime.bot.ports import StoredAnswer
from clawd_runtime.bot.text.unicode import whole_characters
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply, SentRef
from clawd_runtime.errors import SettingsError, StoreError

SHORTEST_SECRET = 32
LONGEST_QUESTION = 32_000
MOST_PROBLEMS = 5
LONGEST_FIELD = 60
KEEP_ALIVE = 15.0
# Another bot on the same database may make the answer, and it cannot reach the client that waits here.
ELSEWHERE = 2.0
UNANSWERED = {"message": "no answer: too many messages within a minute", "hint": "wait a minute"}
STOPPING = {
    "message": "no answer yet: the bot is restarting",
    "hint": "repeat the request with the same id within the lifetime of its token",
}


class ConsoleSettings(ChannelSettings):
    """The console has no settings."""


class Question(BaseModel):
    """The body of a request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: Annotated[str, Field(min_length=1, max_length=LONGEST_QUESTION)]
    conversation: Annotated[str, Field(max_length=128)] = ""
    id: Annotated[str, Field(max_length=128)] | None = None


class Stream:
    """The state of the answer that a request waits for."""

    def __init__(self) -> None:
        self.text = ""
        self.repeated = False
        self.notice = ""
        self.ending: tuple[str, dict[str, str]] | None = None
        self._news = asyncio.Event()

    def grow(self, text: str) -> None:
        """Set the answer so far."""
        self.text = text
        self._news.set()

    def wait(self, notice: str) -> None:
        """Set the notice that the message waits."""
        self.notice = notice
        self._news.set()

    def end(self, event: str, data: dict[str, str]) -> None:
        """Set the final event; only the first call counts."""
        self.ending = self.ending or (event, data)
        self._news.set()

    async def news(self, seconds: float) -> bool:
        """Wait for a change; return False if there was none within `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        changed = self._news.is_set()
        self._news.clear()
        return changed


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
        self._streams: dict[str, set[Stream]] = {}
        self._closed = False

    @classmethod
    def credentials(cls, settings: Any) -> tuple[str, ...]:
        """Return the name of the key that signs the tokens."""
        return ("console-jwt-secret",)

    def routes(self) -> Sequence[BaseRoute]:
        """Return the route described in the module's documentation."""
        return (Route("/console/v1/messages", self._messages, methods=["POST"]),)

    async def send(self, reply: Reply) -> SentRef:
        """Pass the answer to the requests that wait for it; it stays stored for repeated requests."""
        for stream in self._streams.get(reply.event_id, ()):
            stream.end("done", {"text": reply.text})
        return SentRef(reply.key)

    def left_unanswered(self, event_id: str) -> None:
        """See `Channel.left_unanswered`."""
        for stream in self._streams.get(event_id, ()):
            stream.end("error", UNANSWERED)

    async def waiting(self, inbound: Inbound, notice: Callable[[], str]) -> None:
        """See `Channel.waiting`."""
        for stream in self._streams.get(inbound.event_id, ()):
            stream.wait(notice())

    @asynccontextmanager
    async def answering(self, inbound: Inbound) -> AsyncIterator[AnswerProgress]:
        """Stream the answer."""
        yield _Broadcast(self._streams, inbound.event_id)

    async def close(self) -> None:
        """End the streams whose answers will not be made in this run."""
        self._closed = True
        for streams in self._streams.values():
            for stream in streams:
                stream.end("error", STOPPING)

    async def _messages(self, request: Request) -> Response:
        token = self._token(request)
        if token is None:
            return self._unauthorized("no valid bearer token")
        try:
            question = Question.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse({"message": _problems(error)}, 422)
        inbound = _inbound(token.user, question)
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
        stream = await self._accept(inbound)
        return _Events(self._answer(inbound, stream), leave=lambda: self._leave(inbound, stream))

    async def _accept(self, inbound: Inbound) -> Stream:
        stream = Stream()
        self._streams.setdefault(inbound.event_id, set()).add(stream)
        try:
            if not await self.context.inbox.store(inbound):
                stream.repeated = True
                earlier = await self.context.inbox.answer_to(self.name, inbound.event_id)
                if earlier is not None:
                    stream.end(*_ending(earlier))
        except BaseException:
            self._leave(inbound, stream)
            raise
        if self._closed:
            stream.end("error", STOPPING)
        return stream

    async def _answer(self, inbound: Inbound, stream: Stream) -> AsyncIterator[bytes]:
        sent = ""
        yield b": stored\n\n"
        while stream.ending is None:
            if not await stream.news(ELSEWHERE if stream.repeated else KEEP_ALIVE):
                yield b": working\n\n"
                await self._look_elsewhere(inbound, stream)
                continue
            if stream.notice:
                notice, stream.notice = stream.notice, ""
                yield _event("waiting", {"text": notice})
            # A second attempt of the model may begin differently; then only the final event is right.
            if stream.text.startswith(sent) and stream.text != sent:
                yield _event("delta", {"text": stream.text[len(sent) :]})
                sent = stream.text
        # An answer that arrived together with its end is also sent as a delta first.
        if stream.text.startswith(sent) and stream.text != sent:
            yield _event("delta", {"text": stream.text[len(sent) :]})
        yield _event(*stream.ending)

    async def _look_elsewhere(self, inbound: Inbound, stream: Stream) -> None:
        with suppress(StoreError):
            answer = await self.context.inbox.answer_to(self.name, inbound.event_id)
            if answer is not None:
                stream.end(*_ending(answer))

    def _leave(self, inbound: Inbound, stream: Stream) -> None:
        waiting = self._streams[inbound.event_id]
        waiting.discard(stream)
        if not waiting:
            del self._streams[inbound.event_id]

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


class _Events(StreamingResponse):
    """A stream of server-sent events; `leave` is called when it ends or the client disconnects."""

    def __init__(self, content: AsyncIterator[bytes], leave: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        # Not in the generator: it never starts if the client disconnects early.
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


class _Broadcast:
    def __init__(self, streams: dict[str, set[Stream]], event_id: str) -> None:
        self._streams = streams
        self._event_id = event_id

    def show(self, text: str) -> None:
        for stream in self._streams.get(self._event_id, ()):
            stream.grow(text)


def _inbound(user: str, question: Question) -> Inbound:
    # JSON separates the two unambiguously. Without escapes, they fit into an index.
    pair = [whole_characters(user), whole_characters(question.id or uuid.uuid4().hex)]
    event_id = json.dumps(pair, ensure_ascii=False)
    return Inbound(
        event_id=event_id,
        message_id=event_id,
        conversation=ConversationKey("console", user, question.conversation or "default"),
        chat_kind="private",
        user=user,
        text=question.text,
        addressed=True,
        reply_to="",
        received_at=time.time(),
    )


def _single_use(token: ConsoleToken, question: Question) -> tuple[str, str]:
    """Return digests of the token and of the request it is used for, to store them."""
    asked = [token.user, question.conversation or "default", question.id, question.text]
    return _digest([token.user, token.id]), _digest(asked)


def _digest(values: list[str | None]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _ending(answer: StoredAnswer) -> tuple[str, dict[str, str]]:
    if answer.text is None:
        return "error", UNANSWERED
    return "done", {"text": answer.text}


def _event(name: str, data: dict[str, str]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _problems(error: ValidationError) -> str:
    """Return the invalid fields; names that the client chose are truncated."""
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(
        f"{'.'.join(map(str, problem['loc']))[:LONGEST_FIELD] or 'body'}: {problem['msg']}"
        for problem in problems[:MOST_PROBLEMS]
    )
