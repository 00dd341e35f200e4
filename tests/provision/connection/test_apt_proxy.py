"""Package mirrors through the laptop: a real HTTP server, and a socket pair as the SSH channel."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import gevent
import pytest
from paramiko import SSHException

from inventory.errors import HostError
from provision.connection.apt_proxy import _copy, apt_options, share
from provision.connection.package_gate import PackageGate

BODY = b"Package: nginx\n" * 5000


class Mirror(BaseHTTPRequestHandler):
    """A package mirror with one index, an unsized answer, and ranges refused."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/stream":
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for piece in (b"one ", b"two"):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
            return
        if self.path == "/broken":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
            self.close_connection = True
            return
        if self.headers.get("If-Modified-Since"):
            self.send_response(304)
            self.end_headers()
            return
        self.send_response(200 if self.path == "/Packages" else 404)
        body = BODY if self.path == "/Packages" else b""
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def mirror() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


class Transport:
    """An SSH transport whose forwarded port is opened by `connect`."""

    handler: Any = None

    def request_port_forward(self, address: str, port: int, handler: Any) -> int:
        assert (address, port) == ("127.0.0.1", 0)
        self.handler = handler
        return 40123

    def connect(self) -> http.client.HTTPConnection:
        near, far = socket.socketpair()
        self.handler(far, ("127.0.0.1", 1), ("127.0.0.1", 2))
        connection = http.client.HTTPConnection("proxy")
        connection.sock = near
        near.settimeout(10)
        return connection


@pytest.fixture
def transport(mirror: str) -> Transport:
    """A host whose package sources are the mirror, which the inventory declares, and two others."""
    opened = Transport()
    sources = ["http://localhost/debian", "http://127.0.0.1:1/debian", f"https://{mirror[7:]}/debian"]
    assert share("one", opened, PackageGate(lambda: sources, (), [f"{mirror}/debian"])) == 40123
    return opened


def test_apt_options_contain_the_proxy_port() -> None:
    assert apt_options(40123).split()[1] == "Acquire::http::Proxy=http://127.0.0.1:40123"


def test_one_connection_serves_several_files(transport: Transport, mirror: str) -> None:
    connection = transport.connect()
    for _ in range(3):
        connection.request("GET", f"{mirror}/Packages")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, BODY)


def test_status_304_and_404_are_forwarded(transport: Transport, mirror: str) -> None:
    connection = transport.connect()
    connection.request("GET", f"{mirror}/Packages", headers={"If-Modified-Since": "now"})
    assert connection.getresponse().status == 304


def test_answer_of_unknown_length_ends_with_the_connection(transport: Transport, mirror: str) -> None:
    connection = transport.connect()
    connection.request("GET", f"{mirror}/stream")
    answer = connection.getresponse()
    assert answer.read() == b"one two"
    assert answer.getheader("Connection") == "close"


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("POST", "http://127.0.0.1:1/x", 405),
        ("GET", "file:///etc/passwd", 405),
        ("CONNECT", "mail.example:25", 403),
        ("CONNECT", "127.0.0.1:22", 403),
        ("CONNECT", "deb.debian.org:443", 403),
        ("CONNECT", "nonsense", 403),
        ("CONNECT", "[::1", 403),
        ("GET", "http://127.0.0.1:1/admin", 403),
        ("GET", "http://localhost/", 403),
        ("GET", "http://169.254.169.254/latest/meta-data/", 403),
        ("GET", "http://[::ffff:127.0.0.1]/", 403),
        ("GET", "http://2130706433/", 403),
        ("GET", "http://deb.debian.org/debian/", 403),
        ("HEAD", "http://127.0.0.1:x/", 405),
        ("GET", "/Packages", 405),
    ],
)
def test_other_methods_and_targets_are_refused(
    transport: Transport, method: str, target: str, status: int
) -> None:
    connection = transport.connect()
    connection.putrequest(method, target, skip_host=True)
    connection.endheaders()
    assert connection.getresponse().status == status


def test_unreachable_mirror_is_answered_502() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    transport = Transport()
    share("one", transport, PackageGate(list, (), [f"http://127.0.0.1:{port}/debian"]))
    connection = transport.connect()
    connection.request("GET", f"http://127.0.0.1:{port}/Packages")
    assert connection.getresponse().status == 502


def test_name_is_resolved_once_and_sent_to_the_server(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(mirror.rpartition(":")[2])
    asked: list[str] = []
    heard: list[str] = []

    def resolve(host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        # The second answer would be another machine: DNS rebinding.
        address = "127.0.0.1" if len(asked) == 1 or host == "127.0.0.1" else "127.0.0.2"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    answered = Mirror.do_GET

    def hear(mirror: Mirror) -> None:
        heard.append(mirror.headers["Host"])
        answered(mirror)

    monkeypatch.setattr(Mirror, "do_GET", hear)
    monkeypatch.setattr("provision.connection.package_gate.socket.getaddrinfo", resolve)
    transport = Transport()
    share("one", transport, PackageGate(list, (), [f"http://mirror.corp:{port}/debian"]))
    connection = transport.connect()
    connection.request("GET", f"http://mirror.corp:{port}/Packages")
    assert connection.getresponse().status == 200
    assert heard == [f"mirror.corp:{port}"]
    assert asked.count("mirror.corp") == 1


def test_connect_tunnels_to_a_declared_server(mirror: str) -> None:
    transport = Transport()
    share("one", transport, PackageGate(list, (), [f"https://{mirror[7:]}/debian"]))
    connection = transport.connect()
    assert connection.sock
    connection.sock.sendall(f"CONNECT {mirror[7:]} HTTP/1.1\r\n\r\n".encode())
    assert connection.sock.recv(100) == b"HTTP/1.1 200 Connection established\r\n\r\n"
    connection.request("GET", "/Packages")
    assert connection.getresponse().read() == BODY


def test_endless_request_head_closes_the_connection(transport: Transport) -> None:
    connection = transport.connect()
    assert connection.sock
    connection.sock.sendall(b"GET http://x/ HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % n for n in range(200)))
    with gevent.Timeout(5):
        assert connection.sock.recv(100) == b""


def test_malformed_request_closes_the_connection(transport: Transport) -> None:
    connection = transport.connect()
    assert connection.sock
    connection.sock.sendall(b"\x16\x03\x01garbage\r\n")
    with gevent.Timeout(5):
        assert connection.sock.recv(100) == b""


def test_interrupted_answer_of_a_mirror_ends_the_connection(
    transport: Transport, mirror: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    connection = transport.connect()
    connection.request("GET", f"{mirror}/broken")
    with gevent.Timeout(5), pytest.raises(http.client.IncompleteRead):
        connection.getresponse().read()
    assert "proxy for a host without internet" in caplog.text
    assert "Traceback" not in capsys.readouterr().err


def test_copy_ends_when_either_side_is_closed() -> None:
    def gone(_: object) -> bytes:
        raise ConnectionResetError

    _copy(gone, lambda _: None)
    _copy(lambda _: b"data", gone)


@pytest.mark.parametrize("error", [SSHException("TCP forwarding request denied"), EOFError()])
def test_forbidden_port_forwarding_is_reported_with_a_hint(error: Exception) -> None:
    class Forbidding(Transport):
        def request_port_forward(self, address: str, port: int, handler: Any) -> int:
            raise error

    with pytest.raises(HostError, match="one: it has no internet") as caught:
        share("one", Forbidding(), PackageGate(list, (), ()))
    assert "AllowTcpForwarding" in caught.value.advice


@pytest.mark.parametrize("method", ["GET", "CONNECT"])
def test_failed_query_of_package_sources_is_answered_502_and_serving_continues(
    mirror: str, method: str
) -> None:
    """As raised by the session while the connection to the host is lost or slow."""
    failures = [HostError("one: /root/secret: no answer within 20 s")]

    def sources() -> list[str]:
        if failures:
            raise failures.pop()
        return [f"{mirror}/debian"]

    opened = Transport()
    share("one", opened, PackageGate(sources, (), ["http://declared.example/debian"]))
    connection = opened.connect()
    target = "deb.example:443" if method == "CONNECT" else f"{mirror}/Packages"
    connection.request(method, target)
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (
        502,
        b"clawd-provision: this host could not be asked for its package sources\n",
    )
    again = opened.connect()
    again.request("GET", "http://elsewhere.example/")
    assert again.getresponse().status == 403, "the sources were asked again"


def test_unreachable_server_is_named_in_the_answer(transport: Transport) -> None:
    gate = PackageGate(lambda: (), (), ["http://127.0.0.1:1/debian"])
    share("one", transport, gate)
    connection = transport.connect()
    connection.request("CONNECT", "127.0.0.1:1")
    assert connection.getresponse().status == 403, "it is declared for http only"
    connection = transport.connect()
    connection.request("GET", "http://127.0.0.1:1/debian")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (
        502,
        b"clawd-provision: http://127.0.0.1:1 could not be reached\n",
    )
