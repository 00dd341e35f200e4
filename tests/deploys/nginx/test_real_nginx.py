"""The rendered configuration in a real nginx: what is forwarded, refused and logged."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from deploys.nginx.settings import PathSettings
from tests.deploys.nginx.front import RATE, Served, bot, free_port, nginx

POLICY = "Content-Security-Policy"
IPV6 = Path("/proc/net/if_inet6").exists()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    # The first is refused: nothing listens there.
    with bot() as answering, nginx(tmp_path_factory.mktemp("nginx"), (free_port(), answering)) as server:
        yield server


@pytest.mark.parametrize("path", ["/telegram/webhook", "/feishu/webhook"])
def test_webhooks_are_forwarded_with_client_address_and_headers(served: Served, path: str) -> None:
    answer = served.ask(path, "POST", b"{}", {"X-Forwarded-For": "1.2.3.4", "X-Lark-Signature": "abc"})
    received = json.loads(answer.read())
    assert received["path"] == path
    assert received["headers"]["x-forwarded-for"] == "127.0.0.1"
    assert received["headers"]["x-lark-signature"] == "abc"


def test_health_is_forwarded(served: Served) -> None:
    assert served.ask("/healthz").status == 200


def test_next_bot_answers_only_when_the_first_is_gone(tmp_path: Path) -> None:
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
def test_other_paths_are_answered_404(served: Served, path: str) -> None:
    assert served.ask(path).status == 404


@pytest.mark.parametrize("path", ["/console/../metrics", "/console/%2e%2e/metrics", "//metrics"])
def test_path_traversal_and_encodings_are_answered_404(served: Served, path: str) -> None:
    assert served.ask(path).status == 404


def test_event_stream_is_not_buffered(served: Served, tmp_path: Path) -> None:
    read = tmp_path / "read"
    answer = served.ask("/console/v1/messages", "POST", b"{}", {"X-Wait": str(read)})
    assert answer.readline() == b"data: 1\n"
    read.touch()  # only now the bot sends the second event
    assert answer.read() == b"\ndata: 2\n\n"


PAGE_PATHS = ("/console/", "/console/assets/page.js", "/console/session")


@pytest.mark.parametrize("path", PAGE_PATHS)
def test_paths_of_the_page_are_not_found_without_a_page(served: Served, path: str) -> None:
    assert served.ask(path).status == 404


def test_page_is_forwarded_where_it_is_declared(tmp_path: Path) -> None:
    with bot() as answering, nginx(tmp_path, [answering], page=True) as front:
        assert [json.loads(front.ask(path).read())["path"] for path in PAGE_PATHS] == list(PAGE_PATHS)
        moved = front.ask("/console", headers={"Host": "bot.test"})
        assert (moved.status, moved.headers["Location"]) == (
            301,
            f"https://bot.test:{front.https_port}/console/",
        )
        assert [front.ask(path).status for path in ("/", "/metrics", "/console/../metrics")] == [404] * 3


def test_page_is_limited_and_closed_to_others_like_the_console(tmp_path: Path) -> None:
    closed = PathSettings(requests_per_second=RATE, burst=2 * RATE, allow=("192.0.2.0/24",))
    with bot() as answering, nginx(tmp_path, [answering], page=True, console=closed) as front:
        assert [front.ask(path).status for path in PAGE_PATHS] == [403] * 3


def test_policy_of_the_page_replaces_the_one_of_nginx(tmp_path: Path) -> None:
    with bot() as answering, nginx(tmp_path, [answering], page=True) as front:
        policies = front.ask("/console/", headers={"X-Policy": "default-src 'self'"}).headers.get_all(POLICY)
        assert policies == ["default-src 'self'"]
        for path in ("/console/", "/not-there"):
            assert front.ask(path).headers.get_all(POLICY) == ["default-src 'none'; frame-ancestors 'none'"]


def test_too_large_body_is_refused_with_413(served: Served) -> None:
    assert served.ask("/feishu/webhook", "POST", b"x" * 64 * 1024).status == 200
    assert served.ask("/feishu/webhook", "POST", b"x" * (64 * 1024 + 1)).status == 413


def test_every_answer_has_security_headers(served: Served) -> None:
    for path in ("/healthz", "/not-there"):
        headers = served.ask(path).headers
        assert headers["Strict-Transport-Security"] == "max-age=31536000"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"] == "nginx"


def by_name(port: int, sni: str | None, host: str, *, version: str = "HTTP/1.1") -> int | str:
    """Return the status of the answer, or what was refused: the handshake, or the request (`closed`)."""
    header = f"Host: {host}\r\n" if host else ""
    request = f"GET /healthz {version}\r\n{header}Connection: close\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            secured = ssl._create_unverified_context().wrap_socket(plain, server_hostname=sni)
        except ssl.SSLError as error:
            return "refused" if error.reason == "TLSV1_UNRECOGNIZED_NAME" else str(error)
        with secured:
            secured.sendall(request)
            received = b"".join(iter(lambda: secured.recv(4096), b""))
    return int(received.split()[1]) if received else "closed"


@pytest.mark.parametrize(
    ("sni", "host", "expected"),
    [
        ("bot.test", "bot.test", 200),
        ("bot.test", "BOT.test:443", 200),
        ("bot.test", "bot.test.", 200),
        ("a.wild.test", "b.wild.test", 200),
        # Clients that ask for an address name none in the handshake.
        (None, "127.0.0.1", 200),
        (None, "[::1]:8443", 200),
        (None, "bot.test", 200),
        (None, "other.test", "closed"),
        (None, "10.0.0.99", "closed"),
        (None, "", "closed"),
        ("bot.test", "other.test", "closed"),
        ("bot.test", "bot.test.other.test", "closed"),
        ("wild.test", "wild.test", "refused"),
        ("other.test", "other.test", "refused"),
        ("other.test", "bot.test", "refused"),
    ],
)
def test_undeclared_host_names_are_refused(
    wild: Served, sni: str | None, host: str, expected: int | str
) -> None:
    version = "HTTP/1.1" if host else "HTTP/1.0"
    assert by_name(wild.https_port, sni, host, version=version) == expected


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    names = ("bot.test", "*.wild.test", "127.0.0.1", "::1", f"{'long.' * 48}test")
    health = PathSettings(requests_per_second=100, burst=100)
    folder = tmp_path_factory.mktemp("wild")
    with bot() as answering, nginx(folder, [answering], names=names, health=health, ipv6=IPV6) as server:
        yield server


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("bot.test", "/x", 301),
        ("a.wild.test", "/x", 301),
        ("127.0.0.1", "/x", 301),
        ("bot.test", "/.well-known/acme-challenge/token", 200),
        ("other.test", "/x", None),
        ("other.test", "/.well-known/acme-challenge/token", None),
    ],
)
def test_plain_http_is_answered_only_for_declared_names(
    wild: Served, host: str, path: str, expected: int | None
) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", wild.http_port, timeout=10)
    connection.request("GET", path, headers={"Host": host})
    if expected is None:
        with pytest.raises(ConnectionResetError):
            connection.getresponse()
    else:
        assert connection.getresponse().status == expected


def test_refused_host_names_are_not_logged(tmp_path: Path) -> None:
    with bot() as answering, nginx(tmp_path, [answering]) as front:
        assert by_name(front.https_port, "other.test", "other.test") == "refused"
        assert by_name(front.https_port, None, "other.test") == "closed"
        assert front.ask("/feishu/webhook", "POST", b"{}").status == 200
    assert len((tmp_path / "access.log").read_text().splitlines()) == 1
    assert (tmp_path / "error.log").read_text() == ""


def test_every_host_name_is_answered_without_declared_names(tmp_path: Path) -> None:
    with bot() as answering, nginx(tmp_path, [answering], names=()) as front:
        assert by_name(front.https_port, "other.test", "another.test") == 200


def test_plain_http_only_redirects_and_answers_acme_challenges(served: Served) -> None:
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
def test_only_tls_1_2_and_1_3_are_accepted(served: Served, version: ssl.TLSVersion, offered: bool) -> None:
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


def test_rate_limit_applies_per_path(served: Served) -> None:
    time.sleep(2.2)
    burst = [served.ask("/feishu/webhook", "POST", b"{}").status for _ in range(8 * RATE)]
    assert burst[: 2 * RATE] == [200] * (2 * RATE)
    assert 429 in burst
    assert served.ask("/telegram/webhook", "POST", b"{}").status == 200
    time.sleep(2.2)
    assert served.ask("/feishu/webhook", "POST", b"{}").status == 200


def test_access_log_has_no_query_and_no_authorization(served: Served) -> None:
    served.ask(
        "/telegram/webhook?token=s3cret-query", "POST", b"{}", {"Authorization": "Bearer s3cret-header"}
    )
    served.ask("/elsewhere?token=s3cret-query")
    time.sleep(0.2)
    logged = (served.folder / "access.log").read_text()
    assert 'POST "/telegram/webhook" 200' in logged
    assert 'GET "/elsewhere" 404' in logged
    assert "s3cret" not in logged


def path(*, allow: tuple[str, ...] = (), rate: int = 100, burst: int = 100) -> PathSettings:
    return PathSettings(requests_per_second=rate, burst=burst, allow=allow)


def test_every_path_has_its_own_rate_limit_and_allow_list(tmp_path: Path) -> None:
    limits: dict[str, Any] = {
        "telegram": path(allow=("149.154.160.0/20", "91.108.4.0/22")),
        "feishu": path(allow=("127.0.0.0/8",), rate=1, burst=2),
        "console": path(allow=("10.9.0.0/16",)),
    }
    with bot() as port, nginx(tmp_path, [port], **limits) as front:
        assert front.ask("/telegram/webhook", "POST", b"{}").status == 403
        assert front.ask("/console/v1/messages", "POST", b"{}").status == 403
        burst = [front.ask("/feishu/webhook", "POST", b"{}").status for _ in range(6)]
        assert burst == [200] * 3 + [429] * 3
        assert [front.ask("/healthz").status for _ in range(2 * RATE)] == [200] * (2 * RATE)


def test_client_address_is_taken_from_a_trusted_proxy(tmp_path: Path) -> None:
    def status(front: Served, forwarded: str) -> int:
        return front.ask("/telegram/webhook", "POST", b"{}", {"X-Forwarded-For": forwarded}).status

    telegram = path(allow=("149.154.160.0/20",))
    for name in ("trusting", "strict"):
        (tmp_path / name).mkdir()
    with bot() as port:
        trusted = ("127.0.0.0/8",)
        with nginx(tmp_path / "trusting", [port], telegram=telegram, trusted_proxies=trusted) as front:
            assert status(front, "149.154.167.5") == 200
            assert status(front, "149.154.167.5, 203.0.113.9") == 403, (
                "what a client writes itself counts not"
            )
            assert status(front, "149.154.167.5, 127.0.0.9") == 200
        with nginx(tmp_path / "strict", [port], telegram=telegram) as front:
            assert status(front, "149.154.167.5") == 403


def test_connections_of_a_client_are_limited(tmp_path: Path) -> None:
    with bot() as port, nginx(tmp_path, [port], connections=2) as front:
        streams = [front.ask("/console/v1/messages", "POST", b"{}") for _ in range(3)]
        assert [stream.status for stream in streams] == [200, 200, 429]


def test_maintenance_answers_503_with_retry_after(tmp_path: Path) -> None:
    with bot() as port, nginx(tmp_path, [port], maintenance=True, retry_after=90) as front:
        for path in ("/telegram/webhook", "/feishu/webhook", "/console/v1/messages"):
            answer = front.ask(path, "POST", b"{}")
            assert (answer.status, answer.headers["Retry-After"]) == (503, "90")
        page = front.ask("/")
        text = page.read().decode()
        assert (page.status, page.headers["Retry-After"]) == (503, "90")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        assert page.headers["Strict-Transport-Security"] == "max-age=31536000"
        assert "back soon" in text
        assert "维护" in text
        assert front.ask("/healthz").status == 200
        assert front.ask("/healthz").headers["Retry-After"] is None
        for hidden in ("/maintenance.html", "/elsewhere"):
            assert front.ask(hidden).status == 404


def test_unknown_paths_are_rate_limited_and_the_excess_is_not_logged(tmp_path: Path) -> None:
    with bot() as answering, nginx(tmp_path, (answering,)) as front:
        statuses = [front.ask(f"/scan/{number}").status for number in range(120)]
        assert set(statuses) == {404, 429}
        time.sleep(0.2)
        written = (front.folder / "access.log").read_text().splitlines()
        assert len(written) == statuses.count(404) < 80
        assert (front.folder / "error.log").read_text() == ""


def test_redirects_are_rate_limited_and_not_logged(tmp_path: Path) -> None:
    with bot() as answering, nginx(tmp_path, (answering,)) as front:
        statuses = []
        for number in range(80):
            connection = http.client.HTTPConnection("127.0.0.1", front.http_port, timeout=10)
            connection.request("GET", f"/{number}?q=1")
            answer = connection.getresponse()
            statuses.append(answer.status)
            if answer.status == 301:
                assert answer.headers["Location"] == f"https://127.0.0.1:{front.https_port}/{number}?q=1"
        assert set(statuses) == {301, 429}
        assert (front.folder / "access.log").read_text() == ""


def test_ipv6_addresses_of_one_64_bit_network_share_a_rate_limit(tmp_path: Path) -> None:
    """Clients behind a proxy that nginx trusts, each with an address of its own."""

    def passed(front: Served, *addresses: str) -> int:
        asked = [
            front.ask("/feishu/webhook", "POST", b"{}", {"X-Forwarded-For": address}).status
            for address in addresses
        ]
        assert set(asked) <= {200, 429}
        return asked.count(200)

    limits: dict[str, Any] = {"feishu": path(rate=1, burst=2)}
    with (
        bot() as answering,
        nginx(tmp_path, (answering,), trusted_proxies=("127.0.0.1/32",), **limits) as front,
    ):
        assert passed(front, *(f"2001:db8:0:1::{number:x}" for number in range(1, 9))) == 3
        assert passed(front, *(f"2001:db8:0:{number:x}::1" for number in range(2, 10))) == 8
        assert passed(front, *(f"::{number:x}" for number in range(2, 10))) == 3
        assert passed(front, *(f"192.0.2.{number}" for number in range(1, 9))) == 8
        assert passed(front, *["198.51.100.1"] * 8) == 3
