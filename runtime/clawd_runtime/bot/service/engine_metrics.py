"""Forwarding of the local engine's metrics, which are on a Unix socket, to Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.models.completion import ModelClient

SECONDS = 5.0
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def engine_metrics(models: Sequence[ModelClient], http: httpx.AsyncClient) -> tuple[BaseRoute, ...]:
    """Return the route `GET /engine/metrics` if one of the models is an engine on this host.

    It responds with 502 while the engine does not answer. nginx does not forward its path.
    """
    address = next((model.metrics_address for model in models if model.metrics_address), None)
    if address is None:
        return ()

    async def measured(_: Request) -> Response:
        try:
            answer = await http.get(address, timeout=SECONDS)
        except httpx.HTTPError as fault:
            return PlainTextResponse(f"cannot reach the engine: {type(fault).__name__}\n", 502)
        if answer.status_code != 200:
            return PlainTextResponse(f"the engine responded with HTTP {answer.status_code}\n", 502)
        return Response(answer.content, media_type=answer.headers.get("content-type", EXPOSITION))

    return (Route("/engine/metrics", measured),)
