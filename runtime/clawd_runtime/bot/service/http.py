"""The bot's HTTP application: routes of the channels, health and metrics, with limits and measurements."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.service.readiness import Readiness
from clawd_runtime.bot.service.rejections import Rejections
from clawd_runtime.bot.store.store import Store
from clawd_runtime.errors import StoreError

LARGEST_BODY = 1024 * 1024
LONGEST_NUMBER = 20
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def application(
    channel_routes: Sequence[BaseRoute],
    store: Store,
    metrics: Metrics,
    readiness: Readiness,
    rejections: Rejections | None = None,
) -> Starlette:
    """Return the ASGI application."""
    rejected = rejections or Rejections()

    async def alive(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_: Request) -> Response:
        checks = await readiness.checks()
        return JSONResponse(checks, 200 if all(checks.values()) else 503)

    async def measured(_: Request) -> Response:
        return Response(metrics.render(await store.depths()), media_type=EXPOSITION)

    async def left(_: Request, error: Exception) -> Response:
        # The client does not read the response; a connection that it closes is not an error of the bot.
        rejected.report(
            "http", "client left", "HTTP: client disconnected before its request was complete", logging.INFO
        )
        return Response(status_code=400)

    return Starlette(
        routes=[
            Route("/healthz", alive),
            Route("/readyz", ready),
            Route("/metrics", measured),
            *channel_routes,
        ],
        middleware=[
            Middleware(MeasureResponses, metrics=metrics),
            Middleware(LimitBody, largest=LARGEST_BODY),
        ],
        exception_handlers={StoreError: _store_failed, HTTPException: _plain, ClientDisconnect: left},
    )


class MeasureResponses:
    """Middleware that measures the time until a response starts, by route."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.monotonic() - started
                self._metrics.request(_method(scope), _route(scope), message["status"], seconds)
            await send(message)

        await self._app(scope, receive, measured)


class LimitBody:
    """Middleware that responds with 413 to a body larger than `largest` bytes, declared or not."""

    def __init__(self, app: ASGIApp, largest: int) -> None:
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the application, unless its body is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or len(announced) > LONGEST_NUMBER or int(announced) > self._largest:
            await Response(status_code=413)(scope, receive, send)
            return
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self._largest:
                raise HTTPException(413)
            return message

        await self._app(scope, limited, send)


async def _store_failed(_: Request, error: Exception) -> Response:
    # With this status the platform sends the event again.
    return JSONResponse({"message": "event not stored: database error"}, 503, {"Retry-After": "5"})


async def _plain(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Response(status_code=error.status_code, headers=error.headers)


def _method(scope: Scope) -> str:
    known = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
    return scope["method"] if scope["method"] in known else "other"


def _route(scope: Scope) -> str:
    """Return the path of the route; unknown paths of clients must not become labels."""
    route = scope.get("route")
    return route.path if isinstance(route, Route) else "other"
