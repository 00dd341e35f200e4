"""Exporters, Prometheus, Alertmanager and Grafana on real hosts of both releases, by the plain pyinfra.

Each host watches itself: its own nginx, and a bot that a few lines of Python play. Grafana is a stand-in
(tests/standins/grafana). What the checks say is asked as `clawd-provision verify` asks it.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deploys.prometheus.verify import ASK
from deploys.registry import BY_NAME
from deploys.topology.monitoring import PROMETHEUS_PORT
from inventory.load import LoadedInventory
from tests.hosts import Box, Host, boxes, on_hosts, plain, secret, together, until
from tests.standins.grafana.package import build

pytestmark = on_hosts(pytest.mark.campaign, seconds=900)

COMPONENTS = ("exporters", "prometheus", "alertmanager", "grafana")
FEISHU = ("app_secret", "encrypt_key", "verification_token")
TOKEN = "0123456789abcdef-of-alerts"
BOT = """
import http.server
class Bot(http.server.BaseHTTPRequestHandler):
    def reply(self, status, text=""):
        self.send_response(status); self.send_header("Content-Type", "text/plain"); self.end_headers()
        self.wfile.write(text.encode())
    def do_GET(self):
        self.reply(200, "clawd_inbox_depth 0\\n" if self.path == "/metrics" else "ok\\n")
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.reply(400 if self.headers.get("Authorization") == "Bearer %s" else 401)
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Bot).serve_forever()
"""


box = boxes("clmo", 95)


@dataclass(frozen=True)
class Monitored(Host):
    """A host that watches itself; Grafana's package lies on the operator's disk."""

    package: Path

    def inventory(self) -> LoadedInventory:
        """An inventory in which this host does everything."""
        token = secret(TOKEN)
        return self.loaded(
            "runtime",
            "nginx",
            "monitoring",
            channels={"feishu": {"app_id": "cli_1", **dict.fromkeys(FEISHU, token)}},
            monitoring={
                "scrape_interval": 2,
                "window": 10,
                "alerts": {"token": token, "feishu_chat": "oc_1"},
                "grafana": {"admin_password": secret("a-password-of-grafana"), "package": str(self.package)},
            },
        )

    def settings(self, *components: str) -> dict[str, Any]:
        inventory = self.inventory().inventory
        return {name: plain(BY_NAME[name].settings_for(inventory, self.name)) for name in components}

    def up(self) -> frozenset[str]:
        return self.apply(**self.settings(*COMPONENTS))

    def removed(self, **data: Any) -> frozenset[str]:
        return self.remove(*reversed(COMPONENTS), **self.settings(*COMPONENTS), **data)

    def failing(self) -> set[str]:
        """What `verify` finds wrong."""
        return self.failing_checks(self.inventory(), *COMPONENTS)


@pytest.fixture(scope="module")
def hosts(box: Box) -> dict[str, Monitored]:
    """Both hosts with the four components."""
    package = build(box.folder)
    made = {release: Monitored(box, box.named(release), package) for release in box.releases}
    together(made, prepare)
    return made


def prepare(host: Monitored) -> None:
    """What is there before: a front, and something that answers as a bot does."""
    host.on(f"cat > /root/bot.py <<'END'\n{BOT % TOKEN}\nEND\nsystemd-run -q --unit bot python3 /root/bot.py")
    assert host.apply(**host.settings("tls", "nginx", *COMPONENTS))


def test_second_run_changes_nothing(hosts: dict[str, Monitored]) -> None:
    assert together(hosts, Monitored.up) == {"bookworm": frozenset(), "trixie": frozenset()}


def test_checks_pass_after_up(hosts: dict[str, Monitored]) -> None:
    assert together(hosts, Monitored.failing) == {"bookworm": set(), "trixie": set()}


TARGETS = f"python3 -c {shlex.quote(ASK)} http://127.0.0.1:{PROMETHEUS_PORT}/api/v1/targets"
DAMAGE = (
    "sed -i s/for:.*/for:\\ 1h/ /etc/prometheus/clawd-rules.yml",
    "systemctl restart prometheus",
    "systemctl stop prometheus-nginx-exporter",
    "chmod 644 /etc/prometheus/clawd-alerts-token",
    "echo '{}' > /etc/grafana/clawd-dashboards/clawd-bots.json",
)
NAMED = {
    "runs with what is on the disk",
    "configuration is as declared",
    "exporters run with what is on the disk",
    "exporters reach what they measure",
    "exporters listen where they should",
    "every target is up",
    "token is private",
    "files are as declared",
    "sources and dashboards are there",
}
REPAIRED = {
    "Service prometheus-nginx-exporter",
    "Write /etc/prometheus/clawd-rules.yml",
    "Service prometheus",
    "Write /etc/prometheus/clawd-alerts-token",
    "Service prometheus-alertmanager",
    "Write /etc/grafana/clawd-dashboards/clawd-bots.json",
}


def test_checks_report_damage_and_up_repairs_only_that(hosts: dict[str, Monitored]) -> None:
    def damaged(host: Monitored) -> tuple[set[str], frozenset[str], set[str]]:
        host.on(" && ".join(DAMAGE))
        # Until the next scrape, Prometheus does not know either.
        until(lambda: '"health":"down"' in host.on(TARGETS), seconds=60)
        return host.failing(), host.up(), host.failing()

    for named, repaired, left in together(hosts, damaged).values():
        assert named == NAMED
        assert repaired == REPAIRED
        assert left <= {"every target is up"}  # not scraped yet since the repair


def test_configuration_refused_by_prometheus_does_not_go_live(hosts: dict[str, Monitored]) -> None:
    host = hosts["trixie"]
    before = host.on("cat /etc/prometheus/prometheus.yml; systemctl show -p MainPID prometheus")
    broken = host.settings("prometheus")["prometheus"] | {"scrape_interval": -5}
    assert "not a valid duration string" in host.refused(prometheus=broken)
    assert host.on("cat /etc/prometheus/prometheus.yml; systemctl show -p MainPID prometheus") == before


def test_removal_leaves_only_data_and_purge_leaves_nothing(hosts: dict[str, Monitored]) -> None:
    left = """
    dpkg-query -W -f='${Package} ${db:Status-Status}\\n' 'prometheus*' grafana 2>/dev/null |
        grep -v not-installed
    ls -d /etc/prometheus /etc/grafana /etc/default/prometheus* /etc/default/grafana* \\
        /etc/clawd/monitoring* /etc/clawd/grafana* /etc/systemd/system/*prometheus* \\
        /etc/systemd/system/grafana* \\
        /etc/systemd/system/*/*prometheus* /etc/systemd/system/*/grafana* /var/lib/prometheus \\
        /var/log/grafana /var/log/prometheus /var/cache/clawd-grafana /usr/share/grafana 2>/dev/null
    ls /var/lib/clawd/state/packages /var/lib/clawd/state | grep -E 'prom|export|alertm|grafana'
    ss -Hltn | grep -E ':(9090|9093|9100|9113|9115|3000) '
    true"""
    data = "ls -d /var/lib/clawd-prometheus /var/lib/clawd-alertmanager /var/lib/grafana 2>/dev/null || true"
    accounts = "getent passwd prometheus grafana | cut -d: -f1 || true"

    theirs = ("/etc/grafana/provisioning/datasources/theirs.yaml", "/etc/prometheus/theirs.yml")

    def removed(host: Monitored) -> tuple[str, ...]:
        host.on(f"echo '# theirs' | tee {' '.join(theirs)}")
        assert host.removed()
        added = host.on(
            "find /etc/grafana /etc/prometheus ! -type d | sort; rm -r /etc/grafana /etc/prometheus"
        )
        assert added == "\n".join(theirs), "of the administrator, and nothing else"
        kept = (host.on(left), host.on(data), host.on(accounts))
        host.removed(purge=True)
        return (*kept, host.on(data), host.on(accounts))

    kept_data = "/var/lib/clawd-alertmanager\n/var/lib/clawd-prometheus\n/var/lib/grafana"
    for found in together(hosts, removed).values():
        assert found == ("", kept_data, "prometheus\ngrafana", "", "")
