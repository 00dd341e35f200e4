from __future__ import annotations

from collections.abc import Callable

import httpx
from starlette.applications import Starlette

from clawd_runtime.bot.models.completion import ModelClient
from clawd_runtime.bot.service.engine_metrics import engine_metrics
from clawd_runtime.bot.settings import ModelEndpoint

ENGINES = "text/plain; version=1.0.0; charset=utf-8"


async def scrape(endpoint: str, engine: Callable[[httpx.Request], httpx.Response]) -> httpx.Response:
    """Return the response to Prometheus of a bot whose model is at `endpoint`."""

    async with httpx.AsyncClient(transport=httpx.MockTransport(engine)) as http:
        model = ModelClient("default", ModelEndpoint(endpoint=endpoint, model="m"), http)
        app = Starlette(routes=list(engine_metrics(lambda: {"default": model})))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot") as prometheus:
            named = await prometheus.get("/engine/default/metrics")
            assert named.status_code == (await prometheus.get("/engine/metrics")).status_code
            assert (await prometheus.get("/engine/other/metrics")).status_code == 404
            return named


async def test_engine_metrics_are_forwarded() -> None:
    def engine(request: httpx.Request) -> httpx.Response:
        assert request.url == "http://model-default.socket/metrics"
        return httpx.Response(200, text="a 1\n", headers={"content-type": ENGINES})

    passed = await scrape("unix:/run/engine.sock", engine)
    assert (passed.status_code, passed.text) == (200, "a 1\n")
    assert passed.headers["content-type"] == ENGINES


async def test_scrape_fails_when_engine_is_down() -> None:
    def engine(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no socket")

    assert (await scrape("unix:/run/engine.sock", engine)).status_code == 502
    assert (await scrape("unix:/run/engine.sock", lambda _: httpx.Response(500))).status_code == 502


async def test_remote_model_has_no_metrics_route() -> None:
    assert (await scrape("https://models.example.com/v1", lambda _: httpx.Response(200))).status_code == 404
