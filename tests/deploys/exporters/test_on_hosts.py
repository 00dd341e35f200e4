"""Exporters, Prometheus, Alertmanager and Grafana on real hosts of both releases, by the plain pyinfra.

Each host watches itself: its own nginx, and a bot that a few lines of Python play. Grafana is a stand-in
(tests/standins/grafana). What the checks say is asked as `clawd-provision verify` asks it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from deploys.registry import BY_NAME
from inventory.load import Loaded, load
from provision import sandbox
from provision.assign import Selection, assign
from provision.sandbox import Layout
from provision.verify import verify
from tests.standins.grafana.package import build

pytestmark = [
    pytest.mark.host,
    pytest.mark.campaign,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

ROOT = Path(__file__).resolve().parents[3]
RELEASES = {"bot1": "bookworm", "bot2": "trixie"}
COMPONENTS = ("exporters", "prometheus", "alertmanager", "grafana")
FEISHU = ("app_secret", "encrypt_key", "verification_token")
TOKEN = "0123456789abcdef-of-alerts"
BOT = """
import http.server
class Bot(http.server.BaseHTTPRequestHandler):
    def tell(self, status, text=""):
        self.send_response(status); self.send_header("Content-Type", "text/plain"); self.end_headers()
        self.wfile.write(text.encode())
    def do_GET(self):
        self.tell(200, "clawd_inbox_depth 0\\n" if self.path == "/metrics" else "ok\\n")
    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.tell(400 if self.headers.get("Authorization") == "Bearer %s" else 401)
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Bot).serve_forever()
"""


@dataclass
class Host:
    """A host, and the folder of a made-up operator."""

    name: str
    layout: Layout
    folder: Path
    package: Path

    def on(self, command: str) -> str:
        return sandbox.execute(self.name, command, layout=self.layout, timeout=120).strip()

    def loaded(self, **monitoring: Any) -> Loaded:
        """An inventory in which this host does everything."""
        os.environ["CLAWD_TEST_TOKEN"], os.environ["CLAWD_TEST_PASSWORD"] = TOKEN, "a-password-of-grafana"
        declared = {
            "known_hosts": str(self.layout.known_hosts),
            "hosts": {
                self.name: {
                    "address": str(self.layout.address(self.name)),
                    "user": "operator",
                    "ssh_key": str(self.layout.key),
                    "roles": ["runtime", "nginx", "monitoring"],
                }
            },
            "models": {"default": {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}},
            "channels": {"feishu": {"app_id": "cli_1", **dict.fromkeys(FEISHU, "TOKEN")}},
            "monitoring": {
                "scrape_interval": 2,
                "window": 10,
                "alerts": {"token": "TOKEN", "feishu_chat": "oc_1"},
                "grafana": {"admin_password": "PASSWORD", "package": str(self.package)},
                **monitoring,
            },
        }
        text = json.dumps(declared).replace('"TOKEN"', "!env CLAWD_TEST_TOKEN")
        file = self.folder / f"{self.name}.yml"
        file.write_text(text.replace('"PASSWORD"', "!env CLAWD_TEST_PASSWORD"))
        return load(file)

    def run(self, action: str, components: tuple[str, ...], **data: Any) -> frozenset[str]:
        """What pyinfra changed; all of it in one run."""
        inventory = self.loaded(**data.pop("monitoring", {})).inventory
        settings = {name: plain(BY_NAME[name].settings_for(inventory, self.name)) for name in components}
        values = {
            "ssh_hostname": str(self.layout.address(self.name)),
            "ssh_user": "operator",
            "ssh_key": str(self.layout.key),
            "ssh_known_hosts_file": str(self.layout.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "supplies": {"state_folder": str(self.folder / ".clawd" / self.name)},
            **settings,
            **data,
        }
        hosts, deploy = self.folder / f"{self.name}.py", self.folder / f"{self.name}-deploy.py"
        hosts.write_text(f"hosts = [({self.name!r}, {values!r})]\n")
        lines = [f"from deploys.{name}.deploy import {action} as {name}\n" for name in components]
        deploy.write_text("".join(lines) + "".join(f"{name}()\n" for name in components))
        words = [sys.executable, "-m", "pyinfra", "--yes", str(hosts), str(deploy)]
        done = subprocess.run(
            words,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            timeout=400,
        )
        assert done.returncode == 0, done.stdout[-6000:]
        rows = re.findall(
            r"^    \S[^|\n]* \| (.*?) +1 +(1|-) +(?:1|-) +(?:1|-) *$", done.stdout, re.MULTILINE
        )
        assert rows, done.stdout[-3000:]
        return frozenset(name for name, success in rows if success == "1")

    def apply(self, **data: Any) -> frozenset[str]:
        return self.run("apply", COMPONENTS, **data)

    def failing(self) -> set[str]:
        """What `verify` finds wrong."""
        loaded = self.loaded()
        found = verify(loaded, assign(loaded.inventory, Selection(components=COMPONENTS)))
        assert found.checks
        return {check.name for check in found.failed}


def plain(value: Any) -> Any:
    """Settings as somebody writes them into an inventory of pyinfra."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return plain(dict(value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path | IPv4Network) else value


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    """Both hosts with the four components, and what the second run changed."""
    folder = tmp_path_factory.mktemp("monitoring")
    package = build(folder)
    box = Layout(
        folder / ".sandbox", bridge="clmo", subnet=IPv4Network("10.213.95.0/24"), table="clawd_mon_test"
    )
    made = {name: Host(name, box, folder, package) for name in RELEASES}
    try:
        sandbox.up(len(RELEASES), tuple(RELEASES.values()), layout=box)
        together(made, prepare)
        yield made
    finally:
        sandbox.down(layout=box, purge=True)


def prepare(host: Host) -> None:
    """What is there before: a front, and something that answers as a bot does."""
    host.on(f"cat > /root/bot.py <<'END'\n{BOT % TOKEN}\nEND\nsystemd-run -q --unit bot python3 /root/bot.py")
    host.run("apply", ("tls", "nginx"))
    assert host.apply()


def together(hosts: dict[str, Host], act: Any) -> dict[str, Any]:
    """What `act` comes to on each host, on all at once."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(hosts, pool.map(act, hosts.values()), strict=True))


def test_a_second_run_changes_nothing(hosts: dict[str, Host]) -> None:
    assert together(hosts, Host.apply) == {"bot1": frozenset(), "bot2": frozenset()}


def test_checks_hold(hosts: dict[str, Host]) -> None:
    assert together(hosts, Host.failing) == {"bot1": set(), "bot2": set()}


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


def test_damage_is_named_and_exactly_that_is_repaired(hosts: dict[str, Host]) -> None:
    def damaged(host: Host) -> tuple[set[str], frozenset[str], set[str]]:
        host.on(" && ".join(DAMAGE))
        # Until the next scrape, Prometheus does not know either.
        host.on("sleep 5")
        return host.failing(), host.apply(), host.failing()

    for named, repaired, left in together(hosts, damaged).values():
        assert named == NAMED
        assert repaired == REPAIRED
        assert left <= {"every target is up"}  # not scraped yet since the repair


def test_what_prometheus_refuses_never_goes_live(hosts: dict[str, Host]) -> None:
    host = hosts["bot2"]
    before = host.on("cat /etc/prometheus/prometheus.yml; systemctl show -p MainPID prometheus")
    with pytest.raises(AssertionError, match="not a valid duration string"):
        host.run("apply", ("prometheus",), prometheus=broken(host))
    assert host.on("cat /etc/prometheus/prometheus.yml; systemctl show -p MainPID prometheus") == before


def broken(host: Host) -> dict[str, Any]:
    settings: dict[str, Any] = plain(BY_NAME["prometheus"].settings_for(host.loaded().inventory, host.name))
    return settings | {"scrape_interval": -5}


def test_removal_leaves_the_data_and_purging_nothing(hosts: dict[str, Host]) -> None:
    backwards = tuple(reversed(COMPONENTS))
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

    def removed(host: Host) -> tuple[str, ...]:
        assert host.run("remove", backwards)
        kept = (host.on(left), host.on(data), host.on(accounts))
        host.run("remove", backwards, purge=True)
        return (*kept, host.on(data), host.on(accounts))

    kept_data = "/var/lib/clawd-alertmanager\n/var/lib/clawd-prometheus\n/var/lib/grafana"
    for found in together(hosts, removed).values():
        assert found == ("", kept_data, "prometheus\ngrafana", "", "")
