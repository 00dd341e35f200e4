"""Lines that a real nginx wrote, read by the pipeline; some clients try to have them read otherwise."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.deploys.logstash.test_pipeline import pipeline  # noqa: F401 - a fixture
from tests.deploys.nginx.front import NGINX, Served, bot, nginx

pytestmark = pytest.mark.skipif(not NGINX, reason="there is no nginx")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with bot() as answering, nginx(tmp_path_factory.mktemp("nginx"), (answering,), names=()) as server:
        yield server


def written(served: Served, request: bytes, *, plain: bool = False) -> str:
    """The line that nginx writes of a request, sent as it is."""
    log = served.folder / "access.log"
    before = len(log.read_text(errors="surrogateescape").splitlines())
    with socket.create_connection(("127.0.0.1", served.https_port), timeout=10) as line:
        sent = line if plain else ssl._create_unverified_context().wrap_socket(line)
        # It closes while something too large is still being sent.
        with sent, suppress(ssl.SSLError, ConnectionError):
            sent.sendall(request)
            sent.recv(65536)
    deadline = time.monotonic() + 5
    while len(lines := log.read_text(errors="surrogateescape").splitlines()) == before:
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.02)
    (new,) = lines[before:]
    return new


HOST = b" HTTP/1.1\r\nHost: bot.test\r\nConnection: close\r\n\r\n"
FORGED = b'/a" 200 12 0.003 "127.0.0.1:8080" "0.002" 0123456789abcdef0123456789abcdef'


@pytest.mark.parametrize(
    ("request_", "status", "path"),
    [
        (b"\x16\x03\x01 nonsense\r\n\r\n", 400, None),
        (b"GET\r\n\r\n", 400, None),
        (b"get / HTTP/1.1\r\n\r\n", 400, None),
        (b"GET /x HTTP/1.1\r\n\r\n", 400, "/x"),
        (b"GET /x HTTP/9.9\r\nHost: a\r\n\r\n", 505, None),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40000 + b"\r\n\r\n", 400, "/"),
        (b"GET /" + b"a" * 40000 + HOST, 414, None),
        (b"GET /a%22%20200%201%200.1%20%22-%22" + HOST, 404, None),
        (b"GET " + FORGED.replace(b" ", b"%20") + HOST, 404, None),
        (b"GET /a%0a203.0.113.9" + HOST, 404, None),
        (b"GET /a%5c%22%20b" + HOST, 404, None),
        ("GET /早上好".encode() + HOST, 404, None),
        (b"GET /%ff%fe" + HOST, 404, None),
        (b"M-SEARCH /x" + HOST, 404, "/x"),
        (b"GET /healthz/../x" + HOST, 404, "/x"),
        (b"POST /feishu/webhook HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}", 200, "/feishu/webhook"),
    ],
)
def test_pipeline_parses_every_line_of_a_real_nginx(
    pipeline: Any,  # noqa: F811
    served: Served,
    request_: bytes,
    status: int,
    path: str | None,
) -> None:
    line = written(served, request_)
    event = pipeline("nginx_access", line)
    assert "tags" not in event, line
    assert event["http"]["response"]["status_code"] == status
    assert event["source"] == {"address": "127.0.0.1"}
    assert event["http"]["request"]["id"] != "0123456789abcdef0123456789abcdef"
    if path is not None:
        assert event["url"]["path"] == path


def test_pipeline_parses_a_plain_http_request_to_the_tls_port(pipeline: Any, served: Served) -> None:  # noqa: F811
    event = pipeline("nginx_access", written(served, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", plain=True))
    assert "tags" not in event
    assert event["http"]["response"]["status_code"] == 400


def test_pipeline_parses_nginx_errors_of_an_unreachable_bot(pipeline: Any, tmp_path: Path) -> None:  # noqa: F811
    with nginx(tmp_path, ("127.0.0.1:1",)) as served:
        written(served, b"POST /feishu/webhook" + HOST)
        lines = (served.folder / "error.log").read_text().splitlines()
    assert lines
    for line in lines:
        event = pipeline("nginx_error", line)
        assert "tags" not in event
        assert event["log"]["level"] in ("ERROR", "WARN")
