"""Package mirrors for hosts without internet, through the laptop.

While a run goes on, the host has a port on its own loopback that leads through the SSH connection to a
small HTTP proxy here; apt on the host is told to use it. The proxy answers only GET and HEAD of http
addresses and CONNECT to port 443, and ends with the connection.
"""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import gevent
import requests
from paramiko import SSHException
from urllib3.exceptions import HTTPError

from inventory.errors import HostError

CHUNK = 65536
_LOG = logging.getLogger("clawd")
_HOP_BY_HOP = {
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "transfer-encoding",
    "host",
}


def share(name: str, transport: Any) -> int:
    """Opens the port on the host's loopback and serves it; returns its number.

    Args:
        name: the host.
        transport: the paramiko transport of the connection to the host.

    Raises:
        HostError: when the host's sshd forbids forwarding, or the connection is gone.
    """

    def arrived(channel: Any, _origin: object, _server: object) -> None:
        gevent.spawn(_serve, channel)

    try:
        return int(transport.request_port_forward("127.0.0.1", 0, arrived))
    except (SSHException, EOFError, OSError) as error:
        raise HostError(
            f"{name}: it has no internet, and its sshd does not let it have the laptop's ({error})",
            advice=(
                "allow `AllowTcpForwarding remote` (or yes) in its sshd_config, "
                f"or set `internet: true` under `hosts.{name}`"
            ),
        ) from error


def apt_options(port: int) -> str:
    """The options with which apt on the host uses the shared port."""
    proxy = f"http://127.0.0.1:{port}"
    return f"-o Acquire::http::Proxy={proxy} -o Acquire::https::Proxy={proxy}"


def _serve(channel: Any) -> None:
    """Answers the requests of one connection until it ends."""
    reader = channel.makefile("rb")
    try:
        while head := _read_head(reader):
            method, target, headers = head
            if method == "CONNECT":
                _tunnel(channel, target)
                return
            if not _fetch(channel, method, target, headers):
                return
    except (OSError, EOFError, requests.RequestException, HTTPError) as error:
        _LOG.warning("proxy for a host without internet: %s", error)
    finally:
        reader.close()
        channel.close()


def _read_head(reader: Any) -> tuple[str, str, dict[str, str]] | None:
    line = reader.readline().decode("latin-1").split()
    if len(line) != 3:
        return None
    headers = {}
    while (field := reader.readline().decode("latin-1").strip()) != "":
        name, _, value = field.partition(":")
        headers[name.strip().lower()] = value.strip()
    return line[0], line[1], headers


def _fetch(channel: Any, method: str, target: str, headers: dict[str, str]) -> bool:
    """Passes one request on; returns whether the connection can carry another."""
    if method not in {"GET", "HEAD"} or urlsplit(target).scheme != "http":
        _refuse(channel, 405, "Method Not Allowed")
        return False
    passed = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
    passed.setdefault("accept-encoding", "identity")
    try:
        answer = requests.request(
            method, target, headers=passed, stream=True, timeout=(15, 120), allow_redirects=False
        )
    except requests.RequestException as error:
        _LOG.warning("proxy for a host without internet: %s", error)
        _refuse(channel, 502, "Bad Gateway")
        return False
    with answer:
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


def _tunnel(channel: Any, target: str) -> None:
    name, _, port = target.rpartition(":")
    if port != "443":
        _refuse(channel, 403, "Forbidden")
        return
    with socket.create_connection((name, 443), timeout=15) as remote:
        remote.settimeout(None)
        channel.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = gevent.spawn(_copy, remote.recv, channel.sendall)
        _copy(channel.recv, remote.sendall)
        with suppress(OSError):
            remote.shutdown(socket.SHUT_WR)
        back.join(timeout=120)


def _copy(receive: Any, send: Any) -> None:
    """Passes bytes on until either side ends; how it ends is the business of apt on the host."""
    with suppress(OSError, EOFError):
        while chunk := receive(CHUNK):
            send(chunk)


def _refuse(channel: Any, code: int, reason: str) -> None:
    channel.sendall(f"HTTP/1.1 {code} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
