"""What a node is asked before it restarts and after, of a server with scripted answers."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from deploys.elastic.api import ElasticServer
from deploys.elasticsearch import health
from deploys.elasticsearch.health import as_well_as_before, before_leaving, in_a_cluster
from deploys.tls.certificate import new_certificate
from deploys.tls.settings import TlsSettings


@contextmanager
def answering(folder: Path, code: int, body: Any) -> Iterator[tuple[ElasticServer, list[str]]]:
    """A server that says the same to everyone, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(code)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: Any) -> None:
            pass

    pair = new_certificate(TlsSettings(mode="self-signed", names=("127.0.0.1",)), None, datetime.now(UTC))
    ca, key = folder / "ca.pem", folder / "key.pem"
    ca.write_bytes(pair.certificate_pem)
    key.write_bytes(pair.key_pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca, key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield ElasticServer(server.server_address[1], str(ca)), asked
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elastic").write_text("elastic:secret\n")
    monkeypatch.setattr(health, "ADMIN", str(tmp_path / "elastic"))


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, **environment}
    return subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=60, env=given, check=False
    )


@pytest.mark.parametrize(
    ("status", "printed"), [("green", "green"), ("yellow", "green yellow"), ("red", "green yellow red")]
)
def test_node_waits_for_green_before_restart_and_prints_the_status_to_reach(
    tmp_path: Path, status: str, printed: str
) -> None:
    with answering(tmp_path, 200, {"status": status}) as (server, asked):
        assert shell(before_leaving(server)).stdout.strip() == printed
    assert "wait_for_status=green&timeout=50s" in asked[0]


@pytest.mark.parametrize(("code", "body"), [(401, {"status": 401}), (503, {"error": {}, "status": 503})])
def test_status_before_restart_is_empty_without_a_cluster(tmp_path: Path, code: int, body: Any) -> None:
    with answering(tmp_path, code, body) as (server, _):
        assert shell(before_leaving(server)).stdout == ""
    assert shell(before_leaving(server)).stdout == ""


@pytest.mark.parametrize(
    ("before", "status", "ready"),
    [
        ("green", "green", True),
        ("green", "yellow", False),
        ("green yellow", "yellow", True),
        ("green yellow", "red", False),
        ("green yellow red", "red", True),
        ("", "red", True),
    ],
)
def test_node_is_ready_when_the_cluster_has_the_status_before_restart(
    tmp_path: Path, before: str, status: str, ready: bool
) -> None:
    with answering(tmp_path, 200, {"status": status}) as (server, _):
        asked = shell(as_well_as_before(server), before=before)
        assert (asked.returncode == 0) is ready
        assert ready or f"'status': '{status}'" in asked.stderr


def test_node_without_master_is_not_ready(tmp_path: Path) -> None:
    with answering(tmp_path, 503, {"status": 503}) as (server, _):
        assert shell(in_a_cluster(server)).returncode != 0
        assert shell(as_well_as_before(server), before="").returncode != 0
