"""A real nginx on loopback with the rendered configuration, in front of small bots."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploys.nginx.deploy import INTERNAL, values
from deploys.nginx.settings import NginxSettings, PathSettings
from deploys.ops.paths.files import rendered
from deploys.tls.certificate import KeyPair, new_authority, new_certificate
from deploys.tls.settings import TlsSettings

NGINX = os.environ.get("CLAWD_TEST_NGINX") or shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")

STATUS = "127.0.0.1:8090"
RATE = 5


class SmallBot(BaseHTTPRequestHandler):
    """Answers what it was asked; a POST under /console/ is streamed events half a second apart, two or as
    many as it says; after the first it waits for the file that the request names, if it does."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.going.wait(20)  # type: ignore[attr-defined]
        if self.path.startswith("/console/"):
            self._stream()
        else:
            self._answer()

    def _answer(self) -> None:
        seen = {
            "path": self.path,
            "port": self.connection.getsockname()[1],
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        body = json.dumps(seen).encode()
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", str(len(body)))
        if "X-Policy" in self.headers:
            self.send_header("Content-Security-Policy", self.headers["X-Policy"])
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(int(self.headers.get("X-Events", 2))):
            event = b"data: %d\n\n" % (number + 1)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.flush()
            if "X-Wait" in self.headers:
                _wait_for(Path(self.headers["X-Wait"]))
            else:
                time.sleep(0.5)
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


class Bot(ThreadingHTTPServer):
    """A server whose connections can be ended with it, as those of a process are."""

    request_queue_size = 128

    def __init__(self, status: int, going: threading.Event) -> None:
        super().__init__(("127.0.0.1", 0), SmallBot)
        self.status, self.going = status, going
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
    status_port: int
    folder: Path

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        connection = self.connection()
        connection.request(method, path, body, headers or {})
        return connection.getresponse()

    def connection(self) -> http.client.HTTPSConnection:
        """Return one for several requests; where nginx closes it, the next request opens it again."""
        trusting = ssl._create_unverified_context()
        return http.client.HTTPSConnection("127.0.0.1", self.https_port, timeout=10, context=trusting)

    def reload(self) -> None:
        """The configuration is read again, as after a drain or for a new certificate."""
        os.kill(int((self.folder / "nginx.pid").read_text()), signal.SIGHUP)

    def upstream(self, *words: str) -> subprocess.CompletedProcess[str]:
        """The program that drains and restores, as installed."""
        program = [sys.executable, str(self.folder / "upstream.py"), *words]
        return subprocess.run(program, capture_output=True, text=True, timeout=60)

    def down(self) -> list[str]:
        """The bots that are drained."""
        lines = self.upstream("status").stdout.splitlines()
        return [line.split()[0] for line in lines if line.endswith(" down")]


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


def internal_certificate(folder: Path, signer: KeyPair, *names: str) -> None:
    """Write fullchain.pem, privkey.pem and ca.pem of a certificate for other hosts of a deployment."""
    wanted = TlsSettings(names=names, lifetime_days=30, client=True)
    made = new_certificate(wanted, signer, datetime.now(UTC))
    folder.mkdir(exist_ok=True)
    (folder / "fullchain.pem").write_bytes(made.certificate_pem + signer.certificate_pem)
    (folder / "privkey.pem").write_bytes(made.key_pem)
    (folder / "ca.pem").write_bytes(signer.certificate_pem)


def moved(text: str, folder: Path, status_port: int) -> str:
    """A file with its fixed places moved into `folder`, so that nginx runs next to other servers."""
    for old, new in {
        "/etc/nginx/nginx.conf": str(folder / "nginx.conf"),
        "/etc/nginx/clawd": str(folder),
        "/etc/clawd/tls": str(folder),
        INTERNAL: str(folder / "internal"),
        "/var/lib/clawd/acme": str(folder / "acme"),
        "/var/log/nginx": str(folder),
        "/run/nginx.pid": str(folder / "nginx.pid"),
        "/run/clawd-upstream": str(folder / "state"),
        '"/usr/sbin/nginx"': repr(NGINX),
        STATUS: f"127.0.0.1:{status_port}",
    }.items():
        text = text.replace(old, new)
    own = "root" if os.geteuid() == 0 else "www-data"
    text = text.replace("user www-data;", f"user {own};")
    return text.replace("http {", f"http {{\n{temporary_folders(folder)}", 1)


def temporary_folders(folder: Path) -> str:
    """Where large bodies wait: else in /var/lib/nginx, which only the package makes."""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    return "".join(f"    {kind}_temp_path {folder}/temporary-{kind};\n" for kind in kinds)


@contextmanager
def bot(status: int = 200, going: threading.Event | None = None) -> Iterator[int]:
    """A small bot on its port, which answers with this status; a POST waits while it is not `going`."""
    if going is None:
        going = threading.Event()
        going.set()
    server = Bot(status, going)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        for connection in server.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


def settings_of(upstreams: Sequence[str], **changes: Any) -> NginxSettings:
    """Return the settings of an nginx in front of these; every path has the limits of the tests."""
    path = PathSettings(requests_per_second=RATE, burst=2 * RATE)
    paths = {"telegram": path, "feishu": path, "console": path, "health": path}
    names = ("bot.test", "127.0.0.1", "::1")
    return NginxSettings(
        **{"upstreams": tuple(upstreams), "max_body": "64k", "names": names, **paths, **changes}
    )


@contextmanager
def nginx(
    folder: Path, bots: Sequence[int | str], *, within: Sequence[str] = (), ipv6: bool = False, **changes: Any
) -> Iterator[Served]:
    """A real nginx in front of the bots on these ports, with settings changed so.

    `within` are words that begin its command, such as those that lead into a network namespace.
    """
    upstreams = tuple(f"127.0.0.1:{bot}" if isinstance(bot, int) else bot for bot in bots)
    served = Served(free_port(), free_port(), free_port(), folder)
    ports = {"https_port": served.https_port, "http_port": served.http_port}
    settings = settings_of(upstreams, **{**ports, **changes})
    certificate(folder)
    if settings.bots_over_tls and not (folder / "internal").exists():
        internal_certificate(folder / "internal", new_authority("clawd", datetime.now(UTC)), settings.name)
    (folder / "acme/.well-known/acme-challenge").mkdir(parents=True)
    (folder / "acme/.well-known/acme-challenge/token").write_text("proof")
    for name in ("upstreams.conf", "maintenance.html", "upstream.py", "nginx.conf"):
        text = rendered(f"nginx/{name}", values(settings, ipv6=ipv6))
        (folder / name).write_text(moved(text, folder, served.status_port))
    assert NGINX
    subprocess.run([NGINX, "-t", "-q", "-c", str(folder / "nginx.conf")], check=True, timeout=30)
    process = subprocess.Popen([*within, NGINX, "-c", str(folder / "nginx.conf"), "-g", "daemon off;"])
    try:
        if not within:
            wait_for(served.https_port)
        yield served
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
