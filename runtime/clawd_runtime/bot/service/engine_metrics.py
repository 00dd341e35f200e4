"""Forwarding of the local engines' metrics, which are on Unix sockets, to Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.models.completion import ModelClient

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def engine_metrics(models: Callable[[], Mapping[str, ModelClient]]) -> tuple[BaseRoute, ...]:
    """Return `GET /engine/metrics`, of the first engine on this host, and `GET /engine/NAME/metrics`.

    They respond with 502 while the engine does not answer, and with 404 if there is none. nginx does not
    forward their paths.
    """

    async def first(_: Request) -> Response:
        return await _measured(next((model for model in models().values() if model.local), None))

    async def named(request: Request) -> Response:
        return await _measured(models().get(request.path_params["name"]))

    return (Route("/engine/metrics", first), Route("/engine/{name}/metrics", named))


async def _measured(model: ModelClient | None) -> Response:
    try:
        answer = await model.measured() if model else None
    except httpx.HTTPError as fault:
        return PlainTextResponse(f"cannot reach the engine: {type(fault).__name__}\n", 502)
    if answer is None:
        return PlainTextResponse("there is no such engine on this host\n", 404)
    if answer.status_code != 200:
        return PlainTextResponse(f"the engine responded with HTTP {answer.status_code}\n", 502)
    return Response(answer.content, media_type=answer.headers.get("content-type", EXPOSITION))
