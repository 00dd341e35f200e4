"""Read-only checks of nginx: what it offers and refuses, as a client on the host sees it."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from deploys.nginx.deploy import CERTIFICATE, CONFIG, INTERNAL, PROGRAM, reads, serves_its_certificate
from deploys.nginx.settings import NginxSettings
from deploys.ops.checks import (
    expect,
    expect_at_boot,
    expect_certificate,
    expect_listening,
    expect_original,
    expect_started_with,
    said,
)
from deploys.ops.programs import program
from deploys.runtime.bot_question import expect_answer
from deploys.topology.addresses import bracketed
from inventory.rules.nginx import STATUS_PORT

UNDECLARED = "undeclared.invalid"
REFUSED = 0
"""Instead of a status: the connection is closed, or the handshake refuses the name."""
HIDDEN = ("/metrics", "/readyz", "/nginx_status", "/telegram/webhook/x", "/console/v2", "/.well-known/x")


def test_runs_with_what_is_on_the_disk(host: Any, settings: NginxSettings) -> None:
    expect_started_with(host, "nginx.service", watch=reads(settings), at_boot=False)
    expect_original(host, "/usr/sbin/nginx")


def test_starts_at_boot(host: Any) -> None:
    expect_at_boot(host, "nginx.service")


def test_configuration_is_valid(host: Any) -> None:
    checked = host.run("nginx -t -q -c %s", CONFIG)
    expect(checked.rc == 0, f"nginx refuses {CONFIG}: {said(checked)}")


def test_serves_the_certificate_on_the_disk(host: Any, settings: NginxSettings) -> None:
    served = host.run(serves_its_certificate(settings.https_port))
    expect(served.rc == 0, f"port {settings.https_port}: {said(served)}")


def test_certificate_does_not_end_soon(host: Any, settings: NginxSettings) -> None:
    if settings.bots_over_tls:
        expect_certificate(host, INTERNAL)


def test_offers_only_tls_1_2_and_1_3(host: Any, settings: NginxSettings) -> None:
    port = settings.https_port
    offered, why = json.loads(host.check_output("python3 -c %s %s", TLS_VERSIONS, str(port)))
    expect(not why, f"nginx does not answer on port {port}: {why}")
    wanted = {"TLSv1": False, "TLSv1_1": False, "TLSv1_2": True, "TLSv1_3": True}
    differing = [name for name, taken in offered.items() if taken != wanted[name]]
    expect(not differing, f"nginx offers or refuses the wrong versions of TLS: {', '.join(differing)}")


def test_http_is_redirected_to_https(host: Any, settings: NginxSettings) -> None:
    status, location = answer(host, settings, "/any?thing=1", scheme="http")
    port = "" if settings.https_port == 443 else f":{settings.https_port}"
    expect(
        (status, location) == (301, f"https://{_name(settings)}{port}/any?thing=1"),
        f"port {settings.http_port} answers {status} to {location}, and should redirect to https",
    )


def test_passes_to_the_declared_bots_and_none_is_drained(host: Any, settings: NginxSettings) -> None:
    found = host.check_output("%s status", PROGRAM).splitlines()
    wanted = [f"{name} up" for name in settings.upstreams]
    expect(
        found == wanted,
        f"nginx passes requests to {', '.join(found) or 'no bot'}, and should to {', '.join(wanted)}",
        f"`{PROGRAM} restore ADDRESS` on the host puts a bot back; so does `up`",
    )


def test_health_is_passed_to_a_bot(host: Any, settings: NginxSettings) -> None:
    status, _ = answer(host, settings, "/healthz")
    expect(status == 200, f"/healthz is answered with {status}: no bot is behind nginx")


def test_webhooks_reach_a_bot_that_refuses_strangers(host: Any, settings: NginxSettings) -> None:
    for path in ("/telegram/webhook", "/feishu/webhook", "/console/v1/messages"):
        status, _ = answer(host, settings, path, method="POST")
        if settings.maintenance:
            expect(status == 503, f"POST {path} is answered with {status} during maintenance")
        else:
            expect(400 <= status < 500, f"POST {path} without any proof is answered with {status}")


def test_a_question_is_answered_through_it(host: Any, settings: NginxSettings) -> None:
    if settings.questions is None:
        pytest.skip("not tried: there is no channel that a question could be signed for")
    if settings.maintenance:
        pytest.skip("not tried: nginx.maintenance is on, so no request is answered")
    port, name = settings.https_port, settings.public_name
    expect_answer(host, f"nginx at {name}:{port}", port, settings.questions, name=name, chain=CERTIFICATE)


def test_paths_with_a_list_are_closed_to_others(host: Any, settings: NginxSettings) -> None:
    paths = (
        ("/telegram/webhook", settings.telegram),
        ("/feishu/webhook", settings.feishu),
        ("/console/v1/messages", settings.console),
    )
    loopback = ip_address("127.0.0.1")
    for path, declared in paths:
        allowed = not declared.allow or any(loopback in ip_network(network) for network in declared.allow)
        status, _ = answer(host, settings, path, method="POST")
        if not settings.maintenance:
            expect(allowed or status == 403, f"POST {path} from the host itself is answered with {status}")


def test_page_in_the_browser_is_served_only_where_it_is_declared(host: Any, settings: NginxSettings) -> None:
    page, redirect = (answer(host, settings, path)[0] for path in ("/console/", "/console"))
    # Whether a bot answers behind it is checked with the bots.
    found, wanted = (page != 404, redirect), (settings.page, 301 if settings.page else 404)
    expect(
        found == wanted,
        f"/console/ and /console are answered with {page} and {redirect}, and the page is "
        + ("declared" if settings.page else "not declared"),
        "`up` gives nginx and the bots the same settings",
    )


def test_the_page_is_there_only_during_maintenance(host: Any, settings: NginxSettings) -> None:
    status, _ = answer(host, settings, "/")
    wanted = 503 if settings.maintenance else 404
    expect(status == wanted, f"/ is answered with {status}, and should be with {wanted}")


@pytest.mark.parametrize("path", HIDDEN)
def test_everything_else_is_not_found(host: Any, settings: NginxSettings, path: str) -> None:
    status, _ = answer(host, settings, path)
    expect(status == 404, f"{path} is answered with {status}, and should be with 404")


def test_names_that_are_not_declared_are_refused(host: Any, settings: NginxSettings) -> None:
    if not settings.names:
        pytest.skip("not tried: every name is answered")
    for scheme in ("https", "http"):
        # Without an answer to a declared name, nothing is known about others.
        answer(host, settings, "/healthz", scheme=scheme)
        status, _ = _asked(host, scheme, _port(settings, scheme), "GET", "/healthz", UNDECLARED)
        expect(status == REFUSED, f"{scheme}://{UNDECLARED} is answered with {status}, and should be refused")


def test_status_is_for_this_host_only(host: Any) -> None:
    expect_listening(host, STATUS_PORT, {"127.0.0.1"}, "nginx's status page")
    status, _ = _asked(host, "http", STATUS_PORT, "GET", "/nginx_status", "localhost")
    expect(status == 200, f"nginx's status page is answered with {status}")


def answer(
    host: Any, settings: NginxSettings, path: str, *, scheme: str = "https", method: str = "GET"
) -> tuple[int, str | None]:
    """Return status and `Location` of nginx's answer on this host, by the name that clients use.

    Raise `CheckFailed` when there is no answer.
    """
    name = _name(settings)
    status, location = _asked(host, scheme, _port(settings, scheme), method, path, name)
    expect(status != REFUSED, f"nginx refuses {scheme}://{name}, the name of this host, without an answer")
    return status, location


def _name(settings: NginxSettings) -> str:
    return bracketed(settings.public_name) if settings.public_name else "bot.test"


def _port(settings: NginxSettings, scheme: str) -> int:
    return settings.https_port if scheme == "https" else settings.http_port


def _asked(host: Any, scheme: str, port: int, method: str, path: str, name: str) -> tuple[int, str | None]:
    """Return status and `Location` of an answer; the status is `REFUSED` when nginx refuses the request.

    Raise `CheckFailed` when nginx does not answer at all.
    """
    asked = host.check_output("python3 -c %s %s %s %s %s %s", ASK, scheme, str(port), method, path, name)
    status, detail = json.loads(asked)
    expect(status is not None, f"nginx does not answer on port {port}: {detail}")
    return status, detail


ASK = program("deploys/nginx/scripts/ask.py")

TLS_VERSIONS = program("deploys/nginx/scripts/tls_versions.py")
