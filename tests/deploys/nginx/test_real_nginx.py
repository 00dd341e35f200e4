"""The rendered configuration in a real nginx on loopback, in front of a small bot."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploys.nginx.deploy import values
from deploys.nginx.settings import NginxSettings
from deploys.ops.files import rendered

NGINX = os.environ.get("CLAWD_TEST_NGINX") or shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

STATUS = "127.0.0.1:8090"
RATE = 5


class SmallBot(BaseHTTPRequestHandler):
    """Answers what it was asked; under /console/ it streams two events half a second apart."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/console/"):
            self._stream()
        else:
            self._answer()

    def _answer(self) -> None:
        told = {
            "path": self.path,
            "port": self.connection.getsockname()[1],
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in (b"data: 1\n\n", b"data: 2\n\n"):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            time.sleep(0.5)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Bot(ThreadingHTTPServer):
    """A server whose connections can be ended with it, as those of a process are."""

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.connections: list[socket.socket] = []

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, client = super().get_request()
        self.connections.append(connection)
        return connection, client


@dataclass(frozen=True)
class Served:
    """A running nginx: its ports and its folder."""

    https_port: int
    http_port: int
    folder: Path

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        trusting = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection("127.0.0.1", self.https_port, timeout=10, context=trusting)
        connection.request(method, path, body, headers or {})
        return connection.getresponse()


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bot.test")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "fullchain.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


def moved(text: str, folder: Path, status_port: int) -> str:
    """The configuration with its fixed places moved into `folder`, so that it runs beside anything else."""
    for old, new in {
        "/etc/clawd/tls": str(folder),
        "/var/lib/clawd/acme": str(folder / "acme"),
        "/var/log/nginx": str(folder),
        "/run/nginx.pid": str(folder / "nginx.pid"),
        STATUS: f"127.0.0.1:{status_port}",
    }.items():
        assert old in text
        text = text.replace(old, new)
    own = "root" if os.geteuid() == 0 else "www-data"
    return text.replace("user www-data;", f"user {own};")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # The first is refused: nothing listens there.
    with bot() as answering, nginx(tmp_path_factory.mktemp("nginx"), (free_port(), answering)) as server:
        yield server


@contextmanager
def bot() -> Iterator[int]:
    """A small bot on its port."""
    server = Bot(("127.0.0.1", 0), SmallBot)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        for connection in server.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def nginx(folder: Path, bots: Sequence[int]) -> Iterator[Served]:
    """A real nginx in front of the bots on these ports."""
    server = Served(free_port(), free_port(), folder)
    settings = NginxSettings(
        https_port=server.https_port,
        http_port=server.http_port,
        upstreams=tuple(f"127.0.0.1:{port}" for port in bots),
        requests_per_second=RATE,
        max_body="64k",
    )
    certificate(folder)
    (folder / "acme/.well-known/acme-challenge").mkdir(parents=True)
    (folder / "acme/.well-known/acme-challenge/token").write_text("proof")
    text = moved(rendered("nginx/nginx.conf", values(settings, ipv6=False)), folder, free_port())
    (folder / "nginx.conf").write_text(text)
    assert NGINX
    subprocess.run([NGINX, "-t", "-q", "-c", str(folder / "nginx.conf")], check=True, timeout=30)
    process = subprocess.Popen([NGINX, "-c", str(folder / "nginx.conf"), "-g", "daemon off;"])
    try:
        wait_for(server.https_port)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=10)


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


@pytest.mark.parametrize("path", ["/telegram/webhook", "/feishu/webhook"])
def test_webhooks_are_passed_on(served: Served, path: str) -> None:
    answer = served.ask(path, "POST", b"{}", {"X-Forwarded-For": "1.2.3.4", "X-Lark-Signature": "abc"})
    told = json.loads(answer.read())
    assert told["path"] == path
    assert told["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert told["headers"]["x-lark-signature"] == "abc"


def test_health_is_passed_on(served: Served) -> None:
    assert served.ask("/healthz").status == 200


def test_one_bot_answers_all_while_it_lives_and_the_next_when_it_is_gone(tmp_path: Path) -> None:
    def answered_by(front: Served) -> list[int]:
        return [json.loads(front.ask("/feishu/webhook", "POST", b"{}").read())["port"] for _ in range(5)]

    with bot() as second, ExitStack() as first_lives:
        first = first_lives.enter_context(bot())
        with nginx(tmp_path, (first, second)) as front:
            assert answered_by(front) == [first] * 5
            first_lives.close()
            assert answered_by(front) == [second] * 5


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/metrics",
        "/readyz",
        "/console",
        "/telegram/webhook/",
        "/telegram",
        "/nginx_status",
        "/healthz/x",
    ],
)
def test_nothing_else_is(served: Served, path: str) -> None:
    assert served.ask(path).status == 404


@pytest.mark.parametrize("path", ["/console/../metrics", "/console/%2e%2e/metrics", "//metrics"])
def test_no_path_leads_around_that(served: Served, path: str) -> None:
    assert served.ask(path).status == 404


def test_an_event_stream_is_not_held_back(served: Served) -> None:
    begun = time.monotonic()
    answer = served.ask("/console/v1/messages", "POST", b"{}")
    assert answer.readline() == b"data: 1\n"
    assert time.monotonic() - begun < 0.4
    answer.read()
    assert time.monotonic() - begun > 0.9


def test_a_body_that_is_too_large_is_refused(served: Served) -> None:
    assert served.ask("/feishu/webhook", "POST", b"x" * 64 * 1024).status == 200
    assert served.ask("/feishu/webhook", "POST", b"x" * (64 * 1024 + 1)).status == 413


def test_headers_of_every_answer(served: Served) -> None:
    for path in ("/healthz", "/not-there"):
        headers = served.ask(path).headers
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"] == "nginx"


def test_plain_http_only_redirects_and_proves_ownership(served: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.http_port, timeout=10)
    connection.request("POST", "/telegram/webhook?x=1", b"{}", {"Host": "bot.test"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 301
    assert answer.headers["Location"] == f"https://bot.test:{served.https_port}/telegram/webhook?x=1"
    connection.request("GET", "/.well-known/acme-challenge/token")
    assert connection.getresponse().read() == b"proof"


@pytest.mark.parametrize(
    ("version", "offered"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_tls_versions(served: Served, version: ssl.TLSVersion, offered: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", served.https_port), timeout=10) as plain:
        try:
            with context.wrap_socket(plain):
                agreed = True
        except (ssl.SSLError, ConnectionError):
            agreed = False
    assert agreed == offered


def test_a_client_that_asks_too_often_is_slowed_down_on_that_path_only(served: Served) -> None:
    time.sleep(2.2)
    burst = [served.ask("/feishu/webhook", "POST", b"{}").status for _ in range(8 * RATE)]
    assert burst[: 2 * RATE] == [200] * (2 * RATE)
    assert 429 in burst
    assert served.ask("/telegram/webhook", "POST", b"{}").status == 200
    time.sleep(2.2)
    assert served.ask("/feishu/webhook", "POST", b"{}").status == 200


def test_the_log_tells_paths_without_what_may_be_secret(served: Served) -> None:
    served.ask(
        "/telegram/webhook?token=s3cret-query", "POST", b"{}", {"Authorization": "Bearer s3cret-header"}
    )
    served.ask("/elsewhere?token=s3cret-query")
    time.sleep(0.2)
    logged = (served.folder / "access.log").read_text()
    assert "POST /telegram/webhook 200" in logged
    assert "GET /elsewhere 404" in logged
    assert "s3cret" not in logged
