from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from clawd_runtime.bot.service.http import LARGEST_BODY, application
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.service.readiness import Readiness
from clawd_runtime.bot.store.backends.database import OpenDatabase, open_database
from clawd_runtime.bot.store.store import Store
from clawd_runtime.errors import StoreError


@pytest.fixture
def database(tmp_path: Path) -> Iterator[OpenDatabase]:
    opened = open_database(f"sqlite:///{tmp_path}/bot.db")
    yield opened
    opened.close()


async def _echo(request: Request) -> Response:
    body = await request.body()
    if body == b"store":
        raise StoreError("disk full")
    return Response(str(len(body)))


class Broken(Store):
    async def heartbeat(self) -> None:
        raise StoreError("disk full")


NUMBERS = itertools.count(1)


async def call(store: Store, *requests: tuple[str, str, object], alive: bool = True) -> list[httpx.Response]:
    async def model_alive() -> bool:
        return alive

    await store.join(next(NUMBERS), ())
    readiness = Readiness(store.heartbeat, lambda: [model_alive])
    app = application([Route("/echo", _echo, methods=["POST"])], store, Metrics(), readiness)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://bot") as client:
        return [await client.request(method, path, content=body) for method, path, body in requests]  # type: ignore[arg-type]


async def test_health_and_readiness_endpoints(database: OpenDatabase) -> None:
    asked = (("GET", "/healthz", None), ("GET", "/readyz", None))
    healthy, ready = await call(Store(database), *asked)
    assert (healthy.status_code, ready.status_code) == (200, 200)
    healthy, unready = await call(Store(database), *asked, alive=False)
    assert (healthy.status_code, unready.status_code) == (200, 503)
    assert unready.json() == {"database": True, "engine": False}
    _, unready = await call(Broken(database), *asked)
    assert unready.json() == {"database": False, "engine": True}


async def _chunks(size: int) -> AsyncIterator[bytes]:
    while size > 0:
        yield b"x" * min(size, 65_536)
        size -= 65_536


async def test_request_body_size_is_limited(database: OpenDatabase) -> None:
    sizes = (LARGEST_BODY, LARGEST_BODY + 1)
    announced = await call(Store(database), *(("POST", "/echo", b"x" * size) for size in sizes))
    assert [response.status_code for response in announced] == [200, 413]
    streamed = await call(
        Store(database), *(("POST", "/echo", _chunks(size)) for size in (65_536, LARGEST_BODY * 2))
    )
    assert [response.status_code for response in streamed] == [200, 413]


async def test_store_error_returns_503_with_retry_after(database: OpenDatabase) -> None:
    [response] = await call(Store(database), ("POST", "/echo", b"store"))
    assert response.status_code == 503
    assert response.headers["retry-after"] == "5"


async def test_unknown_paths_and_methods_are_refused(database: OpenDatabase) -> None:
    responses = await call(
        Store(database), ("GET", "/admin", None), ("GET", "/echo", None), ("BREW", "/echo", None)
    )
    assert [response.status_code for response in responses] == [404, 405, 405]
    assert [response.content for response in responses] == [b"", b"", b""]


async def test_metrics_are_valid_exposition(database: OpenDatabase) -> None:
    *_, exposition = await call(
        Store(database),
        ("POST", "/echo", b"x"),
        ("GET", "/a/made/up/path", None),
        ("BREW", "/echo", None),
        ("GET", "/metrics", None),
    )
    assert exposition.headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(exposition.text)}
    counts = {
        (sample.labels["method"], sample.labels["path"], sample.labels["status"]): sample.value
        for sample in families["http_request_duration_seconds"].samples
        if sample.name.endswith("_count")
    }
    assert counts == {
        ("POST", "/echo", "200"): 1.0,
        ("GET", "other", "404"): 1.0,
        ("other", "/echo", "405"): 1.0,
    }
    assert {"clawd_inbox_depth", "clawd_outbox_depth", "process_resident_memory_bytes"} <= families.keys()
