"""What the stand-in programs share. They run on hosts: nothing but Python and python3-yaml."""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import socket
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml


def refuse(why: str) -> None:
    """Exit like a program that does not start."""
    sys.exit(f"fatal: {why}")


def settings_of(path: Path, known: set[str], *, environment: bool = False) -> dict[str, Any]:
    """Read a YAML file as flat names. Refuse unknown ones, as the real programs do."""
    text = path.read_text()
    if environment:
        text = re.sub(r"\$\{(\w+)\}", lambda found: os.environ[found[1]], text)
    flat: dict[str, Any] = {}
    flatten(yaml.safe_load(text) or {}, "", flat)
    if unknown := sorted(set(flat) - known):
        refuse(f"unknown setting [{unknown[0]}] in {path}")
    return flat


def flatten(value: Any, name: str, into: dict[str, Any]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            flatten(item, f"{name}.{key}" if name else str(key), into)
    elif name in into:
        refuse(f"the setting [{name}] stands twice")
    else:
        into[name] = value


def notify_ready() -> None:
    """Notify systemd, as Type=notify wants it."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.connect("\0" + path[1:] if path.startswith("@") else path)
            line.send(b"READY=1")


def memory() -> int:
    """Return the bytes of memory of the machine."""
    line = next(line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line)
    return int(line.split()[1]) * 1024


def ask(url: str, ca: str, method: str, path: str, authorization: str, body: Any = None) -> tuple[int, Any]:
    """Ask an HTTPS server whose certificate `ca` must lead to. Status 0 when no server answers."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    context = ssl.create_default_context(cafile=ca)
    connection = http.client.HTTPSConnection(host.strip("[]"), int(port), timeout=10, context=context)
    headers = {"Authorization": authorization, "Content-Type": "application/json"}
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    try:
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read() or b"null")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return 0, str(error)
    finally:
        connection.close()


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def credentials(header: str) -> tuple[str, str]:
    """Return scheme and decoded content of an Authorization header."""
    scheme, _, content = header.partition(" ")
    if scheme == "Basic":
        try:
            return scheme, base64.b64decode(content).decode()
        except ValueError:
            return scheme, ""
    return scheme, content


class Recorder:
    """A file with a line for each call, without secrets."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()

    def write(self, **call: Any) -> None:
        with self._lock, self._path.open("a") as file:
            file.write(json.dumps(call) + "\n")


class Handler(BaseHTTPRequestHandler):
    """Passes every request to `server.answer(method, path, headers, body) -> (status, body)`."""

    protocol_version = "HTTP/1.1"
    timeout = 30

    def _handle(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, body = self.server.answer(self.command, self.path, self.headers, data)  # type: ignore[attr-defined]
        answer = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="security"')
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle

    def log_message(self, format: str, *arguments: object) -> None:
        pass


class Https(ThreadingHTTPServer):
    """An HTTPS server whose handshakes do not hold up others."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], context: ssl.SSLContext, answer: Any) -> None:
        super().__init__(address, Handler)
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.answer = answer

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def server_context(certificate: str, key: str, ca: str | None = None) -> ssl.SSLContext:
    """Return a context of TLS 1.2 and 1.3; with `ca`, only for clients whose certificate it signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    if ca:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(certificate: str, key: str, ca: str, *, names: bool) -> ssl.SSLContext:
    """Return a context that shows a certificate; with `names`, the server's must be for its address."""
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = names
    context.load_cert_chain(certificate, key)
    return context
