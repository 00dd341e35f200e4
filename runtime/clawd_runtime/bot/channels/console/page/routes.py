"""The HTTP of the page, under `/console/`.

| request | result |
|---|---|
| `GET /console/?c=NAME` | the page with a conversation; without `c` a new one |
| `GET /console/assets/NAME` | its style, script and icon |
| `POST /console/session` `{"token"}` | 204 and the cookie of a session; the token of a link works once |
| `GET /console/session` | 204 with a session, else 401 |
| `POST /console/session/end` `{}` | 204, and the session has ended |
| `POST /console/messages` `{"text", "conversation", "id"}` | `waiting`, `part`, `done`, `again`, `error` |
| `POST /console/conversations/rename` `{"conversation", "title"}` | 204; 404 if there is none of this name |
| `POST /console/conversations/forget` `{"conversation"}` | 204; 409 while a question in it is open |

The events of an answer: `part` `{"from", "html"}` replaces its elements from that number on, and `done` is
the last part. `again`: the bot restarts, and the request should be repeated with the same `id`. Refusals have
`message`, in the language of the page.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.channels.base import ChannelContext
from clawd_runtime.bot.channels.console.page.rendering import (
    LONGEST_TITLE,
    POLICY,
    ShownChat,
    asset,
    chat_page,
    logged_out_page,
    newest,
)
from clawd_runtime.bot.channels.console.page.sessions import Sessions, forget, is_from_page, remember
from clawd_runtime.bot.channels.console.page.texts import TEXTS, PageLanguage, PageTexts, page_language
from clawd_runtime.bot.channels.console.questions import Question, inbound_of
from clawd_runtime.bot.channels.console.streams import (
    STOPPING,
    AnswerStreams,
    EventStreamResponse,
    Stream,
    sse,
)
from clawd_runtime.bot.ports import PageStore
from clawd_runtime.bot.text.markdown.html import html_of
from clawd_runtime.bot.values import Inbound
from clawd_runtime.errors import StoreError

HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
LONGEST_NAME = 128
# An answer is rendered as often as it grows, but for no more than a thirtieth of the time, or once a second.
PACE_SECONDS = 0.1
PACE_FACTOR = 30
SLOWEST_PACE = 1.0
RENDERED_AT_ONCE = 4000

ConversationName = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class LogIn(_Body):
    """The body of a request to log in."""

    token: Annotated[str, Field(max_length=8192)]


class Rename(_Body):
    """The body of a request to rename a conversation."""

    conversation: ConversationName
    title: Annotated[str, Field(max_length=LONGEST_TITLE)]


class Forget(_Body):
    """The body of a request to delete a conversation."""

    conversation: ConversationName


AnyBody = TypeVar("AnyBody", bound=BaseModel)


class _Refused(Exception):
    def __init__(self, response: Response) -> None:
        self.response = response


class ConsolePage:
    """The page of a console. `context` returns the channel's."""

    def __init__(self, secret: str, streams: AnswerStreams, context: Callable[[], ChannelContext]) -> None:
        self._sessions = Sessions(secret)
        self._streams = streams
        self._context = context

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes described in the module's documentation."""
        return (
            Route("/console/", self._page),
            Route("/console/assets/{name}", self._asset),
            Route("/console/session", self._session),
            Route("/console/session", self._log_in, methods=["POST"]),
            Route("/console/session/end", self._log_out, methods=["POST"]),
            Route("/console/messages", self._messages, methods=["POST"]),
            Route("/console/conversations/rename", self._rename, methods=["POST"]),
            Route("/console/conversations/forget", self._forget, methods=["POST"]),
        )

    @property
    def _pages(self) -> PageStore:
        pages = self._context().pages
        assert pages is not None, "the page needs a store"
        return pages

    async def _page(self, request: Request) -> Response:
        language, texts = _language_of(request)
        headers = {**HEADERS, "Content-Language": language, "Vary": "Accept-Language, Cookie"}
        try:
            user = await self._sessions.user_of(self._pages, request)
            if user is None:
                return HTMLResponse(logged_out_page(texts, language), headers=headers)
            thread = request.query_params.get("c", "")
            if not 0 < len(thread) <= LONGEST_NAME:
                thread = ""
            overview = await self._pages.overview(user)
            turns = await self._pages.turns(user, thread) if thread else ()
        except StoreError:
            return HTMLResponse(texts.failed, 503, headers={**headers, "Retry-After": "5"})
        outbound = self._context().outbound
        shown = turns if "all" in request.query_params else newest(turns)
        chat = ShownChat(
            user,
            overview,
            thread or uuid.uuid4().hex,
            [(role, outbound.value(text)) for role, text in shown],
            has_earlier=len(shown) < len(turns),
        )
        return HTMLResponse(await asyncio.to_thread(chat_page, chat, texts, language), headers=headers)

    async def _asset(self, request: Request) -> Response:
        found = asset(request.path_params["name"])
        if found is None:
            return Response(status_code=404)
        # Another bot may serve the page of another release, whose files are not these.
        same = request.query_params.get("v") == found.version
        kept = "public, max-age=31536000, immutable" if same else "no-store"
        headers = {"Cache-Control": kept, "Content-Security-Policy": "default-src 'none'"}
        return Response(found.content, media_type=found.media_type, headers=headers)

    async def _session(self, request: Request) -> Response:
        user = await self._sessions.user_of(self._pages, request)
        return Response(status_code=204 if user else 401, headers=HEADERS)

    async def _log_in(self, request: Request) -> Response:
        _, texts = _language_of(request)
        try:
            body = await self._body(request, LogIn)
        except _Refused as refused:
            return refused.response
        session = await self._sessions.log_in(self._context().inbox, self._pages, body.token)
        if session is None:
            self._report("link", "console: refused the link of a user: invalid or already used")
            return _refusal(401, texts.link_invalid)
        await self._sessions.log_out(self._pages, request)
        response = Response(status_code=204, headers=HEADERS)
        remember(response, session)
        return response

    async def _log_out(self, request: Request) -> Response:
        if not is_from_page(request):
            return self._foreign(request)
        await self._sessions.log_out(self._pages, request)
        response = Response(status_code=204, headers=HEADERS)
        forget(response)
        return response

    async def _rename(self, request: Request) -> Response:
        try:
            user, body = await self._asked(request, Rename)
        except _Refused as refused:
            return refused.response
        if not await self._pages.rename(user, body.conversation, " ".join(body.title.split())):
            return _refusal(404, _language_of(request)[1].refused)
        return Response(status_code=204, headers=HEADERS)

    async def _forget(self, request: Request) -> Response:
        try:
            user, body = await self._asked(request, Forget)
        except _Refused as refused:
            return refused.response
        if not await self._pages.forget(user, body.conversation):
            return _refusal(409, _language_of(request)[1].still_open)
        return Response(status_code=204, headers=HEADERS)

    async def _messages(self, request: Request) -> Response:
        language, texts = _language_of(request)
        try:
            user, question = await self._asked(request, Question)
        except _Refused as refused:
            return refused.response
        inbound = inbound_of(user, question, language)
        inbox = self._context().inbox
        stream = await self._streams.accept(inbox, inbound)
        return EventStreamResponse(
            self._answer(inbound, stream, texts), leave=lambda: self._streams.leave(inbound, stream)
        )

    async def _answer(self, inbound: Inbound, stream: Stream, texts: PageTexts) -> AsyncIterator[bytes]:
        shown: tuple[str, ...] = ()
        yield b": stored\n\n"
        async for event in self._streams.events(self._context().inbox, inbound, stream):
            match event.kind:
                case "idle":
                    yield b": working\n\n"
                case "waiting":
                    yield sse("waiting", {"text": event.text})
                case "growing" | "done":
                    started = time.monotonic()
                    elements = await _rendered(self._context().outbound.value(event.text))
                    taken = time.monotonic() - started
                    same = _common_length(shown, elements)
                    shown = elements
                    name = "part" if event.kind == "growing" else "done"
                    yield sse(name, {"from": same, "html": "".join(elements[same:])})
                    if event.kind == "growing":
                        await asyncio.sleep(min(SLOWEST_PACE, max(PACE_SECONDS, PACE_FACTOR * taken)))
                case "error":
                    stopping = event.data == STOPPING
                    yield sse("again", {}) if stopping else sse("error", {"message": texts.too_fast})

    async def _asked(self, request: Request, kind: type[AnyBody]) -> tuple[str, AnyBody]:
        """Return the user and the body of a request; raise `_Refused` if it is not from a user's page."""
        body = await self._body(request, kind)
        user = await self._sessions.user_of(self._pages, request)
        if user is None:
            raise _Refused(_refusal(401, _language_of(request)[1].logged_out))
        return user, body

    async def _body(self, request: Request, kind: type[AnyBody]) -> AnyBody:
        if not is_from_page(request):
            raise _Refused(self._foreign(request))
        try:
            return kind.model_validate_json(await request.body())
        except ValidationError as error:
            long = any(problem["type"] == "string_too_long" for problem in error.errors())
            texts = _language_of(request)[1]
            raise _Refused(_refusal(422, texts.too_long if long else texts.refused)) from None

    def _foreign(self, request: Request) -> Response:
        self._report("origin", "console: refused a request: not from its page")
        return _refusal(403, _language_of(request)[1].refused)

    def _report(self, reason: str, text: str) -> None:
        self._context().rejections.report("console", reason, text)


async def _rendered(markdown: str) -> tuple[str, ...]:
    if len(markdown) <= RENDERED_AT_ONCE:
        return html_of(markdown)
    return await asyncio.to_thread(html_of, markdown)


def _common_length(before: Sequence[str], after: Sequence[str]) -> int:
    """Return how many elements are the same at the beginning."""
    same = 0
    for one, other in zip(before, after, strict=False):
        if one != other:
            break
        same += 1
    return same


def _language_of(request: Request) -> tuple[PageLanguage, PageTexts]:
    language = page_language(request.headers.get("accept-language", ""))
    return language, TEXTS[language]


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status, HEADERS)
