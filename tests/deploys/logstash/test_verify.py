"""The check that Logstash refuses clients without a certificate, against servers on this machine."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploys.logstash.verify import STRANGER
from deploys.tls.certificate import new_authority
from tests.deploys.nginx.front import internal_certificate


@contextmanager
def server(context: ssl.SSLContext | None) -> Iterator[int]:
    """A server on its port that answers one byte, over TLS with a `context`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            plain, _ = listener.accept()
            try:
                with context.wrap_socket(plain, server_side=True) if context else plain as line:
                    line.sendall(b"HTTP/1.1 400 Bad Request")
                    line.recv(65536)
            except OSError:
                plain.close()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def refuses(port: int, authority: Path) -> tuple[bool, str]:
    """Return whether the check passes, and what it prints."""
    words = [sys.executable, "-c", STRANGER, str(port), str(authority)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode == 0, done.stderr.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("own", "other"):
        internal_certificate(tmp_path / name, new_authority("clawd", datetime.now(UTC)), "127.0.0.1")
    return tmp_path


def context_of(folder: Path, *, asks: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "fullchain.pem", folder / "privkey.pem")
    context.load_verify_locations(folder / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED if asks else ssl.CERT_NONE
    return context


def test_server_that_requires_certificates_passes_the_check(folder: Path) -> None:
    with server(context_of(folder / "own", asks=True)) as port:
        assert refuses(port, folder / "own/ca.pem") == (True, "")


def test_server_that_requires_no_certificate_fails_the_check(folder: Path) -> None:
    with server(context_of(folder / "own", asks=False)) as port:
        found = refuses(port, folder / "own/ca.pem")
    assert found == (False, "it answers a client without a certificate")


def test_failed_handshake_does_not_pass_the_check(folder: Path) -> None:
    with server(context_of(folder / "own", asks=True)) as port:
        passes, problem = refuses(port, folder / "other/ca.pem")
    assert not passes
    assert "CERTIFICATE_VERIFY_FAILED" in problem
    with server(None) as port:
        passes, problem = refuses(port, folder / "own/ca.pem")
    assert not passes
    assert "WRONG_VERSION_NUMBER" in problem
