"""tls and nginx on real hosts, by the plain `pyinfra` command, with certificates of an ACME server."""

from __future__ import annotations

import http.client
import shlex
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509

from deploys.nginx.settings import PathSettings
from deploys.tls.certificate import new_authority, new_certificate
from deploys.tls.settings import TlsSettings
from inventory.errors import SandboxError
from tests.deploys.tls.acme import Authority, pebble
from tests.hosts import Box, Host, boxes, in_every_run, on_all, on_hosts, secret, together, until

pytestmark = on_hosts(seconds=600)

SLOW = pytest.mark.campaign
BOT = """
import http.server
class Bot(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        status = 404 if self.path == "/console/v2" else 200
        self.send_response(status); self.send_header("Content-Length", "0"); self.end_headers()
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        known = "Authorization" in self.headers  # as of a question of `verify`
        events = (b"delta", b"done") if known else ()
        said = b"".join(b'event: %s\\ndata: {"text": "ready"}\\n\\n' % event for event in events)
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(said))); self.end_headers()
        self.wfile.write(said)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Bot).serve_forever()
"""
ANY = {"requests_per_second": 10000, "burst": 10000}
LIMITS = dict.fromkeys(("telegram", "feishu", "console", "health"), ANY)
PASSING = {"upstreams": ["127.0.0.1:8080"], "page": True, **LIMITS}
HOOK = """#!/bin/sh
set -e
case $1 in present) path=set-txt ;; *) path=clear-txt ;; esac
python3 -c '
import json, sys, urllib.request
body = json.dumps({"host": sys.argv[2], "value": sys.argv[3]}).encode()
urllib.request.urlopen(sys.argv[1], body, timeout=10)
' "$MANAGEMENT/$path" "$2" "$3"
"""


box = boxes("cltn", 92)


@dataclass(frozen=True)
class Front(Host):
    """A host with nginx in front of a small bot; its name in the DNS that the ACME server asks."""

    acme: Authority

    @property
    def dns_name(self) -> str:
        return f"{self.name}.clawd.test"

    def tls(self, **changes: Any) -> frozenset[str]:
        return self.apply(tls=self.by_acme(**changes))

    def by_acme(self, *, names: tuple[str, ...] = (), fraction: float = 0.33, **acme: Any) -> dict[str, Any]:
        return {
            "mode": "acme",
            "names": names or (self.dns_name,),
            "renew_fraction": fraction,
            "acme": {**self.server, **acme},
        }

    @property
    def server(self) -> dict[str, str]:
        return {"server": self.acme.directory, "authority": str(self.acme.ca), "email": "a@clawd.test"}

    def nginx(self, **changes: Any) -> frozenset[str]:
        return self.apply(nginx={**self.passing(), **changes})

    def served(self) -> x509.Certificate:
        context = ssl._create_unverified_context()
        with (
            socket.create_connection((self.address, 443), timeout=10) as plain,
            context.wrap_socket(plain) as connection,
        ):
            shown = connection.getpeercert(binary_form=True)
        assert shown
        return x509.load_der_x509_certificate(shown)

    def ask(self, path: str, method: str = "GET") -> int:
        context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(self.address, timeout=10, context=context)
        connection.request(method, path, b"{}" if method == "POST" else None)
        return connection.getresponse().status

    def passing(self) -> dict[str, Any]:
        """Return settings of nginx that passes requests for this host's names to one bot."""
        return {**PASSING, "names": [self.dns_name, self.address]}

    def failing(self) -> set[str]:
        """What `verify` finds wrong with tls and nginx."""
        loaded = self.loaded(
            channels={"console": {"jwt_secret": secret("x" * 32)}},
            nginx={"limits": LIMITS},
            tls={"mode": "acme", "names": [self.dns_name], "acme": self.server},
        )
        return self.failing_checks(loaded, "tls", "nginx")


@pytest.fixture(scope="module")
def acme(box: Box, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with pebble(tmp_path_factory.mktemp("pebble"), box.machine) as authority:
        yield authority


@pytest.fixture(scope="module")
def hosts(box: Box, acme: Authority) -> dict[str, Front]:
    """First the certificate, then nginx, in one run; twice."""
    found = {release: Front(box, box.named(release), acme) for release in box.releases}
    together(found, _set_up)
    return found


@pytest.fixture(params=in_every_run("trixie"))
def front(request: pytest.FixtureRequest, hosts: dict[str, Front]) -> Front:
    return hosts[request.param]


def _set_up(front: Front) -> None:
    for name in (front.dns_name, f"any.{front.dns_name}"):
        front.acme.change_dns("add-a", host=name, addresses=[front.address])
    front.on(f"systemd-run -q --unit bot --property Restart=always /usr/bin/python3 -c {shlex.quote(BOT)}")
    front.apply_twice(tls=front.by_acme(), nginx=front.passing())


class Clients:
    """Clients that ask for /healthz, each time over a new connection, until stopped."""

    def __init__(self, front: Front) -> None:
        self._front, self._ending = front, threading.Event()
        self.answers: Counter[Any] = Counter()

    @contextmanager
    def asking(self) -> Iterator[None]:
        threads = [threading.Thread(target=self._ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._ending.set()
            for thread in threads:
                thread.join()

    def _ask(self) -> None:
        while not self._ending.is_set():
            try:
                self.answers[self._front.ask("/healthz")] += 1
            except OSError as error:
                self.answers[repr(error)] += 1


def test_acme_certificate_is_issued_before_nginx_runs_and_then_served(front: Front) -> None:
    leaf = front.served()
    assert "Pebble" in leaf.issuer.rfc4514_string()
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [front.dns_name]
    assert front.failing() == set()


def test_acme_certificate_is_renewed_without_a_failed_request(front: Front) -> None:
    before = front.served().serial_number
    front.on("systemctl start clawd-tls.service")
    assert front.served().serial_number == before, "it is not time yet"
    front.on("sed -i 's#0.33#0.9999#' /etc/clawd/acme/config.json")
    clients = Clients(front)
    with clients.asking():
        time.sleep(1)
        front.on("systemctl start clawd-tls.service")
        time.sleep(1)
    after = front.served().serial_number
    print(front.name, dict(clients.answers))
    assert after != before
    assert clients.answers.keys() == {200}, clients.answers
    assert clients.answers[200] > 20
    assert front.on("ls /etc/clawd/tls.d") == f"{after:x}"
    restored = front.apply(tls=front.by_acme(), nginx=front.passing())
    assert restored == {"Write /etc/clawd/acme/config.json"}, "a renewal by the host is no change"
    assert front.failing() == set()


@SLOW
@on_all
def test_failed_renewal_keeps_the_old_certificate_and_is_exported(front: Front) -> None:
    front.on("mkdir -p /var/lib/clawd/node-exporter")
    metrics = "cat /var/lib/clawd/node-exporter/clawd_tls.prom"
    before = front.served()
    nowhere = front.acme.directory.replace(":14000", ":14999")
    file = "/etc/clawd/acme/config.json"
    front.on(f'sed -i \'s#"server": .*#"server": "{nowhere}",#; s#0.33#0.9999#\' {file}')
    with pytest.raises(SandboxError, match=r"clawd-tls\.service"):
        front.on("systemctl start clawd-tls.service")
    assert "connection refused" in front.on("journalctl -u clawd-tls.service -n 20")
    assert front.served() == before
    exposition = front.on(metrics)
    assert "clawd_tls_renewal_failed 1" in exposition
    assert f"clawd_tls_not_after_seconds {before.not_valid_after_utc.timestamp():.0f}" in exposition
    assert "renewal does not fail" in front.failing()
    front.on("systemctl start clawd-tls.service")
    assert front.served() == before, "an authority is not asked again at once"
    assert front.tls() == {f"Write {file}"}
    front.on("touch -d '1 day ago' /var/lib/clawd/lego/failed; sed -i 's#0.33#0.9999#' " + file)
    front.on("systemctl start clawd-tls.service")
    assert front.served().serial_number != before.serial_number
    assert "clawd_tls_renewal_failed 0" in front.on(metrics)
    front.tls()
    assert front.failing() == set()


def test_checks_report_damage_and_up_repairs_it(front: Front) -> None:
    front.on("rm /etc/clawd/tls/privkey.pem; systemctl disable --now clawd-tls.timer")
    front.on("/usr/local/lib/clawd/upstream status; rm /usr/local/lib/clawd/upstream")
    named = front.failing()
    assert {"certificate holds", "looked at every hour"} <= named
    assert "passes to the declared bots and none is drained" in named
    assert front.apply(tls=front.by_acme(), nginx=front.passing()) == {
        f"Certificate for {front.dns_name}",
        "Service clawd-tls.timer",
        "Write /usr/local/lib/clawd/upstream",
        "Service nginx",
    }
    assert front.failing() == set()


@SLOW
@on_all
def test_dns_challenge_issues_a_wildcard_certificate(front: Front) -> None:
    hook = front.folder / "hook"
    hook.write_text(HOOK)
    names = (f"*.{front.dns_name}", front.dns_name)
    dns: dict[str, Any] = {
        "challenge": "dns-01",
        "hook": str(hook),
        "environment": {"MANAGEMENT": front.acme.management},
        "resolvers": [front.acme.dns],
        "check_propagation": False,
    }
    front.apply_twice(tls=front.by_acme(names=names, **dns))
    front.nginx()
    found = front.served().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(found.get_values_for_type(x509.DNSName)) == set(names)
    assert front.on("stat -c '%a %U' /etc/clawd/acme/environment.json /etc/clawd/acme/dns-hook") == (
        "600 root\n700 root"
    )


@SLOW
@on_all
def test_failed_issuance_is_reported_and_the_old_certificate_stays(front: Front) -> None:
    before = front.served()
    front.acme.change_dns("add-a", host="elsewhere.test", addresses=[front.box.machine])
    message = front.refused(tls=front.by_acme(names=("elsewhere.test",)))
    assert "did not issue one" in message
    assert "elsewhere.test" in message
    assert front.served() == before
    front.on("rm -f /var/lib/clawd/lego/failed")


@SLOW
@on_all
def test_provided_certificate_replaces_the_acme_one(front: Front) -> None:
    now = datetime.now(UTC)
    authority = new_authority("somebody else", now)
    pair = new_certificate(TlsSettings(names=(front.dns_name, front.address)), authority, now)
    chain = (pair.certificate_pem + authority.certificate_pem).decode()
    given = {"certificate": chain, "key": pair.key_pem.decode()}
    settings = {"mode": "provided", "names": [front.dns_name, front.address], "provided": given}
    applied = front.attempt(tls=settings)
    assert applied.succeeded, applied.output
    assert "PRIVATE KEY" not in applied.output
    assert not front.apply(tls=settings)
    assert front.nginx() == {"Service nginx"}
    assert front.served() == pair.certificate
    assert front.on("dpkg-query -W -f '${db:Status-Status}' lego 2>/dev/null || echo none") == "none"
    front.apply(tls=front.by_acme(), nginx=front.passing())
    assert "Pebble" in front.served().issuer.rfc4514_string()


@SLOW
@on_all
def test_drained_bot_is_restored_by_up(front: Front) -> None:
    two = {"upstreams": ["127.0.0.1:8080", "127.0.0.1:8081"], "shared": True}
    assert front.nginx(**two) == {
        "Write /etc/nginx/clawd/upstreams.conf",
        "Write /etc/nginx/nginx.conf",
        "Service nginx",
    }
    assert front.on("/usr/local/lib/clawd/upstream drain 127.0.0.1:8081") == "127.0.0.1:8081 down"
    assert front.on("/usr/local/lib/clawd/upstream status") == "127.0.0.1:8080 up\n127.0.0.1:8081 down"
    assert front.nginx(**two) == {"Write /etc/nginx/clawd/upstreams.conf", "Service nginx"}
    assert front.on("/usr/local/lib/clawd/upstream status").count(" up") == 2
    assert not front.nginx(**two)
    front.refused(nginx={**PASSING, "upstreams": ["no such name:8080"]})
    assert front.ask("/healthz") == 200
    assert not front.nginx(**two)
    front.nginx()


@SLOW
@on_all
def test_nginx_starts_once_the_name_of_a_bot_can_be_resolved(front: Front) -> None:
    front.on("echo 127.0.0.1 late.clawd.test >> /etc/hosts")
    front.nginx(upstreams=["late.clawd.test:8080"])
    front.on("sed -i /late.clawd.test/d /etc/hosts; systemctl stop nginx; systemctl start --no-block nginx")
    time.sleep(8)
    assert front.on("systemctl is-active nginx || true") in ("activating", "inactive", "failed")
    front.on("echo 127.0.0.1 late.clawd.test >> /etc/hosts")
    until(lambda: front.on("systemctl is-active nginx || true") == "active", seconds=15)
    assert front.ask("/healthz") == 200
    front.on("sed -i /late.clawd.test/d /etc/hosts")
    front.nginx()


@SLOW
@on_all
def test_maintenance_answers_503_and_allow_lists_answer_403(front: Front) -> None:
    front.nginx(maintenance=True)
    assert [front.ask("/telegram/webhook", "POST"), front.ask("/"), front.ask("/healthz")] == [503, 503, 200]
    closed = PathSettings(requests_per_second=100, burst=100, allow=("10.9.0.0/16",)).model_dump()
    front.nginx(console=closed)
    assert front.ask("/console/v1/messages", "POST") == 403
    assert front.ask("/telegram/webhook", "POST") == 401
    front.nginx()


def test_systemd_exposure_of_the_renewal_unit_is_low(front: Front) -> None:
    exposure = front.on("systemd-analyze security --no-pager clawd-tls.service | tail -1")
    assert float(exposure.split(":")[1].split()[0]) < 3.0, exposure


def test_removal_leaves_nothing(front: Front) -> None:
    theirs = ("/etc/nginx/conf.d/theirs.conf", "/etc/nginx/sites-available/theirs")
    front.on(f"echo '# theirs' | tee {' '.join(theirs)}")
    traces = (
        "ls -d /etc/nginx /etc/clawd/* /usr/local/lib/clawd/* /var/lib/clawd/acme /var/lib/clawd/lego "
        "/var/lib/clawd/state/packages/* /var/lib/clawd/state/*tls* "
        "/var/lib/nginx /var/log/nginx /run/clawd-upstream "
        "/etc/systemd/system/clawd-tls* /etc/systemd/system/nginx* 2>/dev/null || true; "
        "dpkg-query -W -f '${Package} ${db:Status-Status}\\n' nginx nginx-common lego 2>/dev/null || true; "
        "getent passwd nginx || true"
    )
    assert {"/etc/nginx", "/var/log/nginx"} <= set(front.on(traces).split())
    assert front.remove("nginx", "tls")
    assert not front.remove("nginx", "tls"), "removed again"
    added = front.on("find /etc/nginx ! -type d | sort; rm -r /etc/nginx")
    assert added == "\n".join(theirs), "of the administrator, and nothing else"
    assert front.on(traces) == ""
    with socket.socket() as tried:
        assert tried.connect_ex((front.address, 443)) != 0
