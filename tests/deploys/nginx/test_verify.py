"""The checks of nginx against a real one, one that is stopped, and servers that are broken."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploys.nginx import verify
from deploys.nginx.settings import NginxSettings
from deploys.ops.checks import CheckFailed
from tests.deploys.nginx.front import bot, free_port, nginx, settings_of

Check = Callable[["Here", NginxSettings], None]


class Here:
    """A testinfra host that is this machine."""

    def check_output(self, command: str, *args: str) -> str:
        assert command.startswith("python3 -c %s")
        words = [sys.executable, "-c", *args]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout


def hidden(host: Here, settings: NginxSettings) -> None:
    verify.test_everything_else_is_not_found(host, settings, "/metrics")


ASKING: tuple[Check, ...] = (
    verify.test_http_is_redirected_to_https,
    verify.test_health_is_passed_to_a_bot,
    verify.test_webhooks_reach_a_bot_that_refuses_strangers,
    verify.test_paths_with_a_list_are_closed_to_others,
    verify.test_page_in_the_browser_is_served_only_where_it_is_declared,
    verify.test_the_page_is_there_only_during_maintenance,
    verify.test_names_that_are_not_declared_are_refused,
    hidden,
)
"""The checks that ask nginx by its name."""


def problem_of(check: Check, https_port: int, http_port: int, *, page: bool = False) -> str:
    """Return the problem that a check reports of what is on these ports; empty when it passes."""
    ports = {"https_port": https_port, "http_port": http_port}
    try:
        check(Here(), settings_of(("127.0.0.1:1",), public_name="bot.test", page=page, **ports))
    except CheckFailed as failed:
        return failed.problem
    return ""


@contextmanager
def server(reply: bytes) -> Iterator[int]:
    """A server on its port that reads once, sends `reply` and closes every connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("check", [*ASKING, verify.test_offers_only_tls_1_2_and_1_3])
def test_every_check_fails_when_nginx_is_stopped(check: Check) -> None:
    problem = problem_of(check, free_port(), free_port())
    assert problem.startswith("nginx does not answer on port ")
    assert "Connection refused" in problem


@pytest.mark.parametrize("check", ASKING)
def test_every_check_fails_when_the_handshake_is_broken(check: Check) -> None:
    with server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as broken:
        problem = problem_of(check, broken, broken)
    if check is verify.test_http_is_redirected_to_https:
        assert problem.startswith(f"port {broken} answers 400")
    else:
        assert problem.startswith(f"nginx does not answer on port {broken}: [SSL")


def test_check_of_names_fails_when_every_connection_is_closed() -> None:
    with server(b"") as closing:
        problem = problem_of(verify.test_names_that_are_not_declared_are_refused, closing, closing)
    assert problem.startswith(f"nginx does not answer on port {closing}: [SSL: UNEXPECTED_EOF")


def test_refused_declared_name_fails_the_checks(tmp_path: Path) -> None:
    with bot() as answering, nginx(tmp_path, [answering], names=("other.test",)) as front:
        for check in (verify.test_health_is_passed_to_a_bot, verify.test_http_is_redirected_to_https):
            problem = problem_of(check, front.https_port, front.http_port)
            assert problem.endswith("://bot.test, the name of this host, without an answer")


@pytest.mark.parametrize("names", [("bot.test", "127.0.0.1"), ()])
def test_check_of_names_fails_when_nginx_answers_undeclared_names(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    with bot() as answering, nginx(tmp_path, [answering], names=names) as front:
        found = problem_of(
            verify.test_names_that_are_not_declared_are_refused, front.https_port, front.http_port
        )
    refused = f"https://{verify.UNDECLARED} is answered with 200, and should be refused"
    assert found == ("" if names else refused)


def test_checks_pass_with_a_real_nginx(tmp_path: Path) -> None:
    with bot() as answering, nginx(tmp_path, [answering]) as front:
        for check in (
            verify.test_http_is_redirected_to_https,
            verify.test_health_is_passed_to_a_bot,
            verify.test_the_page_is_there_only_during_maintenance,
            verify.test_offers_only_tls_1_2_and_1_3,
            hidden,
        ):
            assert problem_of(check, front.https_port, front.http_port) == ""


@pytest.mark.parametrize(
    ("served", "declared", "found"),
    [(True, True, ""), (False, False, ""), (True, False, "200 and 301"), (False, True, "404 and 404")],
)
def test_check_of_the_page_finds_one_that_is_not_declared_or_missing(
    tmp_path: Path, *, served: bool, declared: bool, found: str
) -> None:
    check = verify.test_page_in_the_browser_is_served_only_where_it_is_declared
    with bot() as answering, nginx(tmp_path, [answering], page=served) as front:
        problem = problem_of(check, front.https_port, front.http_port, page=declared)
    assert problem.startswith(f"/console/ and /console are answered with {found}" if found else "")
    assert bool(problem) == bool(found)
