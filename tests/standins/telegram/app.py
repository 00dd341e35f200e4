"""The stand-in for the Telegram Bot API as an ASGI app: the API itself and the control interface."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.standins.faults import Faults, faults_endpoint
from tests.standins.limits import Window
from tests.standins.telegram.methods import METHODS
from tests.standins.telegram.polling import WEBHOOK_SET, Polling
from tests.standins.telegram.state import Bot, Chat
from tests.standins.telegram.webhook import Rules, WebhookSender, forge
from tests.standins.telegram.wire import ApiError, Call, read_call

MESSAGE_FIELDS = {"text", "chat", "from", "message_thread_id", "reply_to_message_id", "extra"}
CHAT_FIELDS = {field.name for field in dataclasses.fields(Chat)}


class Account:
    """One bot with its long poll and its webhook."""

    def __init__(self, token: str, rules: Rules, clock: Callable[[], float] = time.time) -> None:
        self.bot = Bot(token, clock=clock)
        self.polling = Polling(self.bot)
        self.sender = WebhookSender(self.bot, rules)

    async def call(self, call: Call) -> dict[str, Any]:
        """Return the body of the answer to one method call."""
        if call.method == "getupdates":
            return {"ok": True, "result": await self.polling.get_updates(call)}
        if call.method in {"setwebhook", "deletewebhook"}:
            description = self.sender.set(call)
            if self.bot.webhook:
                self.polling.abort(WEBHOOK_SET)
            return {"ok": True, "result": True, "description": description}
        if call.method not in METHODS:
            raise ApiError(404, "Not Found: method not found")
        return {"ok": True, "result": METHODS[call.method](self.bot, call)}


class TelegramStandin:
    """A Bot API server with the bots of `tokens`; `app` serves it. `clock` measures the limits."""

    def __init__(
        self, tokens: Iterable[str], rules: Rules | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._rules = rules or Rules()
        self._tokens = tuple(tokens)
        self._accounts = {token: Account(token, self._rules, self._clock) for token in self._tokens}
        self._faults = Faults()
        control: list[tuple[str, list[str], Callable[[Request], Awaitable[Response]]]] = [
            ("messages", ["POST"], self._inject_message),
            ("updates", ["POST"], self._inject_update),
            ("chats", ["POST"], self._set_chat),
            ("limits", ["POST"], self._set_limits),
            ("forge", ["POST"], self._forge),
            ("redeliver", ["POST"], self._redeliver),
            ("faults", ["POST", "DELETE"], lambda request: faults_endpoint(self._faults, request)),
            ("sent", ["GET"], self._sent),
            ("calls", ["GET"], self._calls),
            ("drafts", ["GET"], self._drafts),
            ("deliveries", ["GET"], self._deliveries),
            ("health", ["GET"], self._health),
            ("reset", ["POST"], self._reset),
        ]
        self.app = Starlette(
            routes=[
                *(Route(f"/_control/{name}", _told(act), methods=how) for name, how, act in control),
                Route("/bot{token}/{method}", self._api, methods=["GET", "POST"]),
                Route("/bot{token}/", self._api, methods=["GET", "POST"]),
                Route("/{rest:path}", _nowhere),
            ],
            lifespan=self._lifespan,
        )

    @asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        yield
        for account in self._accounts.values():
            account.sender.stop()
            account.polling.abort("Unauthorized")

    async def _api(self, request: Request) -> Response:
        token, method = request.path_params["token"], request.path_params.get("method", "")
        try:
            if ":" not in token or not token.partition(":")[0].isdigit():
                raise ApiError(401, "Unauthorized: invalid token specified")
            if token not in self._accounts:
                raise ApiError(401, "Unauthorized")
            call = await read_call(request, method)
        except ApiError as refusal:
            return _refused(refusal)
        except ClientDisconnect:
            return Response(status_code=499)  # the client has closed the connection, as nginx would note
        return await self._faults.around(call.method, lambda: self._answer(self._accounts[token], call))

    async def _answer(self, account: Account, call: Call) -> Response:
        record: dict[str, Any] = {"method": call.method, "params": call.params, "at": account.bot.clock()}
        if call.method != "getupdates":
            account.bot.calls.append(record)
        try:
            body = await account.call(call)
        except ApiError as refusal:
            record["error"] = refusal.description
            return _refused(refusal)
        return JSONResponse(body)

    @property
    def bot(self) -> Bot:
        """Return the first bot, for tests in the same process."""
        return self._accounts[self._tokens[0]].bot

    def _account(self, request: Request) -> Account:
        token = request.query_params.get("token", self._tokens[0])
        if token not in self._accounts:
            raise ValueError("no bot has that token")
        return self._accounts[token]

    async def _inject_message(self, request: Request) -> Response:
        given = await request.json()
        _only(given, MESSAGE_FIELDS)
        account = self._account(request)
        message = _user_message(account.bot, given)
        if not account.bot.sees(message):
            return JSONResponse({"update_id": None, "message": message})
        update = account.bot.enqueue("message", message, message["chat"]["id"])
        return JSONResponse({"update_id": update.id if update else None, "message": message})

    async def _inject_update(self, request: Request) -> Response:
        given = await request.json()
        _only(given, {"type", "payload", "chat_id"})
        update = self._account(request).bot.enqueue(given["type"], given["payload"], given.get("chat_id", 0))
        return JSONResponse({"update_id": update.id if update else None})

    async def _set_chat(self, request: Request) -> Response:
        return JSONResponse(_chat(self._account(request).bot, await request.json()).shown())

    async def _set_limits(self, request: Request) -> Response:
        given = await request.json()
        _only(given, {"chat", "group", "all"})
        limits = self._account(request).bot.limits
        for name, (count, seconds) in given.items():
            setattr(limits, name, Window(count, seconds))
        return JSONResponse({})

    async def _forge(self, request: Request) -> Response:
        given = await request.json()
        _only(given, {"message", "secret_token"})
        account = self._account(request)
        message = _user_message(account.bot, given["message"])
        body = {"update_id": account.bot.next_update + 500_000, "message": message}
        status = await forge(account.sender, account.bot, body, given.get("secret_token", ""))
        return JSONResponse({"status": status, "update_id": body["update_id"]})

    async def _redeliver(self, request: Request) -> Response:
        given = await request.json()
        _only(given, {"update_id", "message"})
        account = self._account(request)
        secret = account.bot.webhook.secret_token if account.bot.webhook else ""
        body = {"update_id": given["update_id"], "message": given["message"]}
        return JSONResponse({"status": await forge(account.sender, account.bot, body, secret)})

    async def _sent(self, request: Request) -> Response:
        sent = self._account(request).bot.sent
        if chat := request.query_params.get("chat_id"):
            sent = [message for message in sent if str(message["chat"]["id"]) == chat]
        return JSONResponse(sent)

    async def _calls(self, request: Request) -> Response:
        return JSONResponse(self._account(request).bot.calls)

    async def _drafts(self, request: Request) -> Response:
        drafts = self._account(request).bot.drafts
        return JSONResponse(
            [{"chat_id": chat, "draft_id": draft, "text": text} for (chat, draft), text in drafts.items()]
        )

    async def _deliveries(self, request: Request) -> Response:
        return JSONResponse(
            [dataclasses.asdict(attempt) for attempt in self._account(request).sender.attempts]
        )

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"standin": "telegram"})

    async def _reset(self, request: Request) -> Response:
        for account in self._accounts.values():
            account.sender.stop()
            account.polling.abort("Unauthorized")
        self._accounts = {token: Account(token, self._rules, self._clock) for token in self._tokens}
        self._faults.clear()
        return JSONResponse({})


def _user_message(bot: Bot, given: dict[str, Any]) -> dict[str, Any]:
    chat = _chat(bot, given.get("chat", {}))
    sender = {"id": 4711, "is_bot": False, "first_name": "Ada", "language_code": "en"} | given.get("from", {})
    extra = dict(given.get("extra", {}))
    if thread := given.get("message_thread_id"):
        chat.threads.add(thread)
        extra |= {"message_thread_id": thread, "is_topic_message": True}
    if reply := given.get("reply_to_message_id"):
        extra["reply_to_message"] = bot.messages[chat.id, reply]
    return bot.message(chat, sender, given.get("text"), extra)


def _chat(bot: Bot, given: dict[str, Any]) -> Chat:
    """Return the chat of that id, created or changed as `given` says."""
    _only(given, CHAT_FIELDS)
    chat = bot.chats.setdefault(given.get("id", 4711), Chat(given.get("id", 4711)))
    for name, value in given.items():
        setattr(chat, name, set(value) if name.endswith("threads") else value)
    return chat


def _only(given: dict[str, Any], known: set[str]) -> None:
    if unknown := set(given) - known:
        raise ValueError(f"unknown fields {sorted(unknown)}; there are {sorted(known)}")


def _told(act: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Answer a mistake in a control call with 400 and its reason."""

    async def endpoint(request: Request) -> Response:
        try:
            return await act(request)
        except (ValueError, KeyError, TypeError) as wrong:
            return JSONResponse({"error": f"{type(wrong).__name__}: {wrong}"}, 400)
        except ApiError as refusal:
            return _refused(refusal)

    return endpoint


def _refused(refusal: ApiError) -> Response:
    headers = {"Retry-After": str(refusal.retry_after)} if refusal.retry_after else None
    return JSONResponse(refusal.body(), refusal.code, headers=headers)


async def _nowhere(request: Request) -> Response:
    return _refused(ApiError(404, "Not Found"))
