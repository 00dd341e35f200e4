"""Package mirrors for hosts without internet, through the laptop.

During a run, the host has a port on its loopback that is forwarded through the SSH connection to a small HTTP
proxy here; apt on the host is configured to use it. The proxy answers only GET and HEAD of http URLs and
CONNECT, only for servers of the host's package sources (`package_gate`), and ends with the connection.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urljoin, urlsplit

import gevent
import requests
from paramiko import SSHException
from urllib3.exceptions import HTTPError

from inventory.errors import ClawdError, HostError
from provision.connection.package_gate import Origin, PackageGate, RefusedError

CHUNK = 65536
MOST_LINE, MOST_HEADERS = 8192, 100
UNASKED = "this host could not be asked for its package sources"
FAILURES = (OSError, EOFError, ValueError, requests.RequestException, HTTPError)
"""Exceptions of a connection to a server; a name with too long a label raises `ValueError`."""
_LOG = logging.getLogger("clawd")
_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "transfer-encoding",
    "host",
}


def share(name: str, transport: Any, gate: PackageGate) -> int:
    """Open a port on the host's loopback, serve it, and return its number.

    Args:
        name: the host.
        transport: the paramiko transport of the connection to the host.
        gate: what the host may reach.

    Raises:
        HostError: when the host's sshd forbids forwarding, or the connection is gone.

    """

    def arrived(channel: Any, _origin: object, _server: object) -> None:
        gevent.spawn(_serve, channel, gate)

    try:
        return int(transport.request_port_forward("127.0.0.1", 0, arrived))
    except (SSHException, EOFError, OSError) as error:
        raise HostError(
            f"{name}: it has no internet, and its sshd refuses a port for the laptop's ({error})",
            advice=(
                "allow `AllowTcpForwarding remote` (or yes) in its sshd_config, "
                f"or set `internet: true` under `hosts.{name}`"
            ),
        ) from error


def apt_options(port: int) -> str:
    """Return the options with which apt on the host uses the shared port."""
    proxy = f"http://127.0.0.1:{port}"
    return f"-o Acquire::http::Proxy={proxy} -o Acquire::https::Proxy={proxy}"


class _UnreachedError(Exception):
    """A server could not be reached before anything was answered."""


@contextmanager
def _reaching(origin: Origin) -> Iterator[None]:
    """Raise `_UnreachedError` instead of an exception of the connection to a server."""
    try:
        yield
    except ClawdError as error:
        raise _UnreachedError(UNASKED) from error
    except FAILURES as error:
        raise _UnreachedError(f"{origin} could not be reached") from error


def _serve(channel: Any, gate: PackageGate) -> None:
    """Answer the requests of one connection until it ends."""
    reader = channel.makefile("rb")
    try:
        while head := _read_head(reader):
            method, target, headers = head
            if method == "CONNECT":
                _tunnel(channel, target, gate)
                return
            if not _fetch(channel, method, target, headers, gate):
                return
    except RefusedError as refused:
        _LOG.warning("proxy for a host without internet: refused: %s", refused)
        with suppress(OSError, EOFError):
            _refuse(channel, 403, "Forbidden")
    except _UnreachedError as unreached:
        _LOG.warning("proxy for a host without internet: %s: %s", unreached, unreached.__cause__)
        with suppress(OSError, EOFError):
            # Without the cause, which may contain details of this machine's network.
            _refuse(channel, 502, "Bad Gateway", f"clawd-provision: {unreached}\n")
    except (*FAILURES, ClawdError) as error:
        _LOG.warning("proxy for a host without internet: %s", error)
    finally:
        reader.close()
        channel.close()


def _read_head(reader: Any) -> tuple[str, str, dict[str, str]] | None:
    """Return method, target and headers of a request; `None` at the end or for an invalid request."""
    line = reader.readline(MOST_LINE).decode("latin-1").split()
    if len(line) != 3:
        return None
    headers: dict[str, str] = {}
    while (field := reader.readline(MOST_LINE).decode("latin-1").strip()) != "":
        name, _, value = field.partition(":")
        headers[name.strip().lower()] = value.strip()
        if len(headers) > MOST_HEADERS:
            return None
    return line[0], line[1], headers


def _fetch(channel: Any, method: str, target: str, headers: dict[str, str], gate: PackageGate) -> bool:
    """Forward one request; return whether the connection can carry another."""
    origin = Origin.of(target)
    if method not in {"GET", "HEAD"} or urlsplit(target).scheme != "http" or origin is None:
        _refuse(channel, 405, "Method Not Allowed")
        return False
    passed = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
    passed.setdefault("accept-encoding", "identity")
    with _reaching(origin):
        answer = _asked(origin, method, target, passed, gate)
    with answer:
        if answer.is_redirect:
            gate.learn(urljoin(target, answer.headers["location"]))
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        sized = (
            "content-length" in {name.lower() for name in kept}
            or method == "HEAD"
            or answer.status_code == 304
        )
        kept["Connection"] = "keep-alive" if sized else "close"
        lines = [f"HTTP/1.1 {answer.status_code} {answer.reason}", *(f"{n}: {v}" for n, v in kept.items())]
        channel.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if method == "GET":
            for chunk in iter(lambda: answer.raw.read(CHUNK, decode_content=False), b""):
                channel.sendall(chunk)
    return sized


def _asked(
    origin: Origin, method: str, target: str, headers: dict[str, str], gate: PackageGate
) -> requests.Response:
    """Return the answer of the server at a checked address, or of this machine's own proxy."""
    proxies = requests.utils.get_environ_proxies(target)
    if "http" in proxies or "all" in proxies:
        # The proxy resolves the name; if this machine can resolve it as well, the address must be allowed.
        with suppress(socket.gaierror):
            gate.addresses(origin)
        return _request(method, target, headers, proxies)
    parts = urlsplit(target)
    refused: Exception | None = None
    for address in gate.addresses(origin):
        place = f"[{address}]" if ":" in address else address
        there = parts._replace(netloc=f"{place}:{origin.port}").geturl()
        host = parts.netloc.rpartition("@")[2]
        try:
            return _request(method, there, {**headers, "host": host}, {})
        except requests.ConnectionError as error:
            refused = error
    raise refused or OSError("no address")


def _request(method: str, url: str, headers: dict[str, str], proxies: dict[str, str]) -> requests.Response:
    session = requests.Session()
    session.trust_env = False
    return session.request(
        method,
        url,
        headers=headers,
        proxies=proxies,
        stream=True,
        timeout=(15, 120),
        allow_redirects=False,
    )


def _tunnel(channel: Any, target: str, gate: PackageGate) -> None:
    origin = Origin.of(f"https://{target}")
    if origin is None:
        raise RefusedError(f"{target} is no server")
    with _reaching(origin):
        connected = _connected(gate.addresses(origin), origin.port)
    with connected as remote:
        remote.settimeout(None)
        channel.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = gevent.spawn(_copy, remote.recv, channel.sendall)
        _copy(channel.recv, remote.sendall)
        with suppress(OSError):
            remote.shutdown(socket.SHUT_WR)
        back.join(timeout=120)


def _connected(addresses: tuple[str, ...], port: int) -> socket.socket:
    refused: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=15)
        except OSError as error:
            refused = error
    raise refused or OSError("no address")


def _copy(receive: Any, send: Any) -> None:
    """Forward bytes until either side ends; apt on the host handles errors."""
    with suppress(OSError, EOFError):
        while chunk := receive(CHUNK):
            send(chunk)


def _refuse(channel: Any, code: int, reason: str, text: str = "") -> None:
    fields = ["Connection: close", f"Content-Length: {len(text.encode())}"]
    if text:
        fields.append("Content-Type: text/plain; charset=utf-8")
    head = "\r\n".join((f"HTTP/1.1 {code} {reason}", *fields))
    channel.sendall(f"{head}\r\n\r\n{text}".encode())
