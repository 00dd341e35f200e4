"""The metrics of the engine behind a unix socket, passed on to Prometheus by the bot."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.completion import ChatModel

SECONDS = 5.0
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


def engine_metrics(models: Sequence[ChatModel], http: httpx.AsyncClient) -> tuple[BaseRoute, ...]:
    """`GET /engine/metrics`, when one of the models is an engine of this host.

    502 while the engine does not answer. nginx passes fixed paths only, and this is none of them.
    """
    address = next((model.metrics_address for model in models if model.metrics_address), None)
    if address is None:
        return ()

    async def measured(_: Request) -> Response:
        try:
            answer = await http.get(address, timeout=SECONDS)
        except httpx.HTTPError as fault:
            return PlainTextResponse(f"the engine does not answer: {type(fault).__name__}\n", 502)
        if answer.status_code != 200:
            return PlainTextResponse(f"the engine answers {answer.status_code}\n", 502)
        return Response(answer.content, media_type=answer.headers.get("content-type", EXPOSITION))

    return (Route("/engine/metrics", measured),)
