"""The stand-in for the Feishu open platform as an ASGI app: the API itself and the control interface."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from tests.standins.faults import Faults, faults_endpoint
from tests.standins.feishu.api import (
    add_reaction,
    authorize,
    bot_info,
    create_message,
    delete_reaction,
    get_message,
    recall_message,
    reply_message,
    tenant_token,
)
from tests.standins.feishu.envelope import forged, wrapped
from tests.standins.feishu.events import Delivery, event_of, reaches_app, user_message
from tests.standins.feishu.state import ApiError, Chat, Credentials, Platform
from tests.standins.limits import Window
from tests.standins.outbound import Reach

MESSAGE_FIELDS = {
    *("text", "user", "chat_id", "mention_bot", "mentions", "msg_type", "content", "thread_id", "parent_id")
}
Act = Callable[[Request], Awaitable[Response]]


class FeishuStandin:
    """The open platform with one app; `app` serves it."""

    def __init__(
        self,
        credentials: Credentials | None = None,
        reach: Reach | None = None,
        pace: float = 1.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._given = (credentials or Credentials(), reach or Reach(), pace, clock)
        self._faults = Faults()
        self._start_anew()
        control: list[tuple[str, list[str], Act]] = [
            ("webhook", ["POST"], self._subscribe),
            ("messages", ["POST"], self._inject_message),
            ("events", ["POST"], self._inject_event),
            ("chats", ["POST"], self._set_chat),
            ("recall", ["POST"], self._recall),
            ("app", ["POST"], self._set_app),
            ("tokens", ["POST"], self._age_tokens),
            ("limits", ["POST"], self._set_limits),
            ("forge", ["POST"], self._forge),
            ("redeliver", ["POST"], self._redeliver),
            ("faults", ["POST", "DELETE"], lambda request: faults_endpoint(self._faults, request)),
            ("reactions", ["GET"], self._reactions),
            ("sent", ["GET"], self._sent),
            ("cards", ["GET"], self._cards),
            ("calls", ["GET"], self._calls),
            ("deliveries", ["GET"], self._deliveries),
            ("health", ["GET"], self._health),
            ("reset", ["POST"], self._reset),
        ]
        api: list[tuple[str, str, Act]] = [
            ("POST", "/auth/v3/tenant_access_token/internal", self._token),
            ("GET", "/bot/v3/info", self._bot_info),
            ("POST", "/im/v1/messages", self._create),
            ("GET", "/im/v1/messages/{message_id}", self._get),
            ("DELETE", "/im/v1/messages/{message_id}", self._recall_own),
            ("POST", "/cardkit/v1/cards", self._create_card),
            ("PUT", "/cardkit/v1/cards/{card_id}", self._replace_card),
            ("PATCH", "/cardkit/v1/cards/{card_id}/settings", self._configure_card),
            ("PUT", "/cardkit/v1/cards/{card_id}/elements/{element_id}/content", self._write_card),
            ("POST", "/im/v1/messages/{message_id}/reply", self._reply),
            ("POST", "/im/v1/messages/{message_id}/reactions", self._react),
            ("DELETE", "/im/v1/messages/{message_id}/reactions/{reaction_id}", self._take_back),
        ]
        self.app = Starlette(
            routes=[
                *(Route(f"/_control/{name}", _told(act), methods=how) for name, how, act in control),
                *(Route(f"/open-apis{path}", self._guarded(act), methods=[how]) for how, path, act in api),
                Route("/{rest:path}", _nowhere),
            ],
            lifespan=self._lifespan,
        )

    def _start_anew(self) -> None:
        credentials, reach, pace, clock = self._given
        self._platform = Platform(credentials, clock)
        self._delivery = Delivery(self._platform, reach, pace)

    @property
    def platform(self) -> Platform:
        """Return the state, for tests in the same process."""
        return self._platform

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        self._delivery.stop()

    def _guarded(self, act: Act) -> Act:
        """Record a call of the API, apply faults, and show refusals as the platform does."""

        async def endpoint(request: Request) -> Response:
            record: dict[str, Any] = {
                "path": request.url.path,
                "method": request.method,
                "at": self._platform.clock(),
                "code": 0,
            }
            self._platform.calls.append(record)

            async def answer() -> Response:
                try:
                    return await act(request)
                except ApiError as refusal:
                    record["code"] = refusal.code
                    return JSONResponse(refusal.body(), refusal.status, headers=refusal.headers)

            return await self._faults.around(request.url.path, answer)

        return endpoint

    async def _token(self, request: Request) -> Response:
        return JSONResponse(tenant_token(self._platform, await _json(request)))

    async def _bot_info(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        return JSONResponse(bot_info(self._platform))

    async def _create(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        kind = request.query_params.get("receive_id_type", "open_id")
        return JSONResponse(create_message(self._platform, kind, await _json(request)))

    async def _reply(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        message_id = request.path_params["message_id"]
        return JSONResponse(reply_message(self._platform, message_id, await _json(request)))

    async def _get(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        return JSONResponse(get_message(self._platform, request.path_params["message_id"]))

    async def _recall_own(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        return JSONResponse(recall_message(self._platform, request.path_params["message_id"]))

    async def _create_card(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        return JSONResponse(self._platform.cards.create(await _json(request)))

    async def _replace_card(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        card_id = request.path_params["card_id"]
        return JSONResponse(self._platform.cards.replace(card_id, await _json(request)))

    async def _configure_card(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        card_id = request.path_params["card_id"]
        return JSONResponse(self._platform.cards.configure(card_id, await _json(request)))

    async def _write_card(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        card_id, element_id = request.path_params["card_id"], request.path_params["element_id"]
        return JSONResponse(self._platform.cards.write(card_id, element_id, await _json(request)))

    async def _react(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        message_id = request.path_params["message_id"]
        return JSONResponse(add_reaction(self._platform, message_id, await _json(request)))

    async def _take_back(self, request: Request) -> Response:
        authorize(self._platform, request.headers)
        message_id, reaction_id = request.path_params["message_id"], request.path_params["reaction_id"]
        return JSONResponse(delete_reaction(self._platform, message_id, reaction_id))

    async def _subscribe(self, request: Request) -> Response:
        given = await request.json()
        _only(given, {"url"})
        error = await self._delivery.subscribe(given["url"])
        return JSONResponse({"error": error}, 400 if error else 200)

    async def _inject_message(self, request: Request) -> Response:
        given = await request.json()
        _only(given, MESSAGE_FIELDS)
        content = user_message(self._platform, given)
        if not reaches_app(self._platform, content):
            return JSONResponse({"event_id": None, "message": content["message"]})
        event_id = self._delivery.push(event_of(self._platform, content))
        return JSONResponse({"event_id": event_id, "message": content["message"]})

    async def _inject_event(self, request: Request) -> Response:
        given = await request.json()
        _only(given, {"event_type", "event"})
        event = event_of(self._platform, given["event"])
        event["header"]["event_type"] = given["event_type"]
        return JSONResponse({"event_id": self._delivery.push(event)})

    async def _set_chat(self, request: Request) -> Response:
        given = await request.json()
        chat = self._platform.add_chat(Chat(**given))
        return JSONResponse(dataclasses.asdict(chat))

    async def _recall(self, request: Request) -> Response:
        """Recall a message of a user; with `deleted`, remove it entirely."""
        given = await request.json()
        _only(given, {"message_id", "deleted"})
        (self._platform.deleted if given.get("deleted") else self._platform.recalled).add(given["message_id"])
        return JSONResponse({})

    async def _reactions(self, request: Request) -> Response:
        found = self._platform.reactions
        return JSONResponse([{"message_id": message, "emoji": emoji} for message, emoji in found])

    async def _cards(self, request: Request) -> Response:
        now, found = self._platform.clock(), self._platform.cards.cards
        return JSONResponse([card.view(now) for card in found.values()])

    async def _set_app(self, request: Request) -> Response:
        given = await request.json()
        _only(given, {"group_messages", "bot_name", "bot_open_id", "may_react", "may_make_cards"})
        if "may_make_cards" in given:
            self._platform.cards.allowed = given.pop("may_make_cards")
        for name, value in given.items():
            setattr(self._platform, name, value)
        return JSONResponse({})

    async def _age_tokens(self, request: Request) -> Response:
        """Let all tokens expire `seconds` earlier; `revoke` makes all of them invalid at once."""
        given = await request.json()
        _only(given, {"seconds", "revoke"})
        if given.get("revoke"):
            self._platform.tokens.clear()
        for token in self._platform.tokens:
            token.expires -= given.get("seconds", 0)
        return JSONResponse({})

    async def _set_limits(self, request: Request) -> Response:
        given = await request.json()
        _only(given, {"receiver", "second", "minute"})
        for name, (count, seconds) in given.items():
            setattr(self._platform.limits, name, Window(count, seconds))
        return JSONResponse({})

    async def _forge(self, request: Request) -> Response:
        given = await request.json()
        _only(given, {"kind", "message"})
        event = event_of(self._platform, user_message(self._platform, given["message"]))
        key, now = self._platform.credentials.encrypt_key, self._platform.clock()
        status = await self._delivery.once(forged(given["kind"], key, event, now))
        return JSONResponse({"status": status, "message": event["event"]["message"]})

    async def _redeliver(self, request: Request) -> Response:
        """Send the same bytes and headers again; with `new_event_id`, the message as another event."""
        given = await request.json()
        _only(given, {"event_id", "new_event_id"})
        event, envelope = self._delivery.events[given["event_id"]]
        if given.get("new_event_id"):
            again = event_of(self._platform, event["event"])
            envelope = wrapped(self._platform.credentials.encrypt_key, again, self._platform.clock())
        return JSONResponse({"status": await self._delivery.once(envelope)})

    async def _sent(self, request: Request) -> Response:
        sent = self._platform.sent
        for name in ("chat_id", "parent_id"):
            if wanted := request.query_params.get(name):
                sent = [message for message in sent if message.get(name) == wanted]
        return JSONResponse(sent)

    async def _calls(self, request: Request) -> Response:
        return JSONResponse(self._platform.calls)

    async def _deliveries(self, request: Request) -> Response:
        return JSONResponse([dataclasses.asdict(attempt) for attempt in self._delivery.attempts])

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"standin": "feishu"})

    async def _reset(self, request: Request) -> Response:
        self._delivery.stop()
        self._faults.clear()
        self._start_anew()
        return JSONResponse({})


async def _json(request: Request) -> dict[str, Any]:
    try:
        given = json.loads(await request.body())
    except ValueError:
        given = None
    if not isinstance(given, dict):
        raise ApiError(9499, "Bad Request")
    return given


def _only(given: dict[str, Any], known: set[str]) -> None:
    if unknown := set(given) - known:
        raise ValueError(f"unknown fields {sorted(unknown)}; there are {sorted(known)}")


def _told(act: Act) -> Act:
    """Answer a mistake in a control call with 400 and its reason."""

    async def endpoint(request: Request) -> Response:
        try:
            return await act(request)
        except (ValueError, KeyError, TypeError) as wrong:
            return JSONResponse({"error": f"{type(wrong).__name__}: {wrong}"}, 400)

    return endpoint


async def _nowhere(request: Request) -> Response:
    return PlainTextResponse("404 page not found", 404)
