"""nginx and bots of other hosts: real nginx, TLS with certificates of the project on both sides."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploys.nginx.settings import PathSettings
from deploys.tls.certificate import KeyPair, new_authority
from deploys.topology.certificates import INTERNAL_BOT
from tests.deploys.nginx.front import Bot, internal_certificate, nginx


@pytest.fixture(scope="module")
def ours() -> KeyPair:
    return new_authority("ours", datetime.now(UTC))


@contextmanager
def tls_bot(folder: Path, signer: KeyPair, *names: str) -> Iterator[int]:
    """A bot on its port that asks clients for a certificate of `signer`, and shows one for `names`."""
    internal_certificate(folder, signer, *names)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "fullchain.pem", folder / "privkey.pem")
    context.load_verify_locations(folder / "ca.pem")
    going = threading.Event()
    going.set()
    server = Bot(200, going)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def status(folder: Path, port: int, front: KeyPair) -> int:
    """What a client of nginx gets whose front has a certificate of `front`."""
    internal_certificate(folder / "internal", front, "10.0.0.1")
    with nginx(folder, [port], bots_over_tls=True) as served:
        return served.ask("/healthz").status


def test_nginx_accepts_a_bot_of_its_project(tmp_path: Path, ours: KeyPair) -> None:
    with tls_bot(tmp_path / "bot", ours, INTERNAL_BOT, "10.0.0.2") as port:
        assert status(tmp_path, port, ours) == 200


def test_nginx_refuses_a_bot_of_another_project(tmp_path: Path, ours: KeyPair) -> None:
    theirs = new_authority("theirs", datetime.now(UTC))
    with tls_bot(tmp_path / "bot", theirs, INTERNAL_BOT) as port:
        assert status(tmp_path, port, ours) == 502


def test_nginx_refuses_a_certificate_of_another_host_of_the_project(tmp_path: Path, ours: KeyPair) -> None:
    with tls_bot(tmp_path / "bot", ours, "10.0.0.3") as port:
        assert status(tmp_path, port, ours) == 502


def test_nginx_refuses_a_bot_without_tls(tmp_path: Path, ours: KeyPair) -> None:
    going = threading.Event()
    going.set()
    server = Bot(200, going)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert status(tmp_path, server.server_port, ours) == 502
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("path", ["/telegram/webhook", "/console/v1/messages"])
def test_requests_go_to_bots_of_its_authority_while_others_have_another(
    tmp_path: Path, ours: KeyPair, path: str
) -> None:
    """As during a change of the authority; a request for the console is not repeated once a bot has it."""
    theirs = new_authority("theirs", datetime.now(UTC))
    internal_certificate(tmp_path / "internal", ours, "10.0.0.1")
    unlimited = PathSettings(requests_per_second=1000, burst=1000)
    with (
        tls_bot(tmp_path / "one", ours, INTERNAL_BOT) as one,
        tls_bot(tmp_path / "two", theirs, INTERNAL_BOT) as two,
        nginx(
            tmp_path, [two, one], bots_over_tls=True, shared=True, telegram=unlimited, console=unlimited
        ) as served,
    ):
        answers = [served.ask(path, "POST", b"{}") for _ in range(10)]
        assert [answer.status for answer in answers] == [200] * 10
