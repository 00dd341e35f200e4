"""The figures of deploys/hardening/README.md, measured again: ssh-audit, lynis and systemd-analyze."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from provision import sandbox
from tests.hosts import Box, Host, boxes, on_hosts, together

pytestmark = on_hosts(pytest.mark.campaign, seconds=1200)

LEAST_INDEX = 75
MOST_EXPOSURE = 3.0
# Everything is counted, also what a container cannot do.
LYNIS = """
export DEBIAN_FRONTEND=noninteractive
command -v lynis >/dev/null || apt-get install -qq -y --no-install-recommends lynis >/dev/null 2>&1
rm -f /etc/lynis/custom.prf
lynis audit system --quick --no-colors --quiet >/root/lynis.txt 2>&1
cat /var/log/lynis-report.dat
"""

box = boxes("clfg", 72)


@pytest.fixture(scope="module")
def hosts(box: Box) -> dict[str, Host]:
    made = {release: Host(box, box.named(release)) for release in box.releases}
    together(made, lambda host: host.apply(**declared(host)))
    return made


@pytest.fixture(params=("bookworm", "trixie"))
def host(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Host:
    return hosts[request.param]


def declared(host: Host) -> dict[str, Any]:
    names = {"names": [host.address]}
    return {
        "base": {},
        "hardening": {},
        "firewall": {"openings": [{"port": 443}, {"port": 80}]},
        "tls": names,
        "database": {**names, "clients": [host.box.machine], "password": "a-password-of-the-database"},
        "nginx": {"upstreams": ["127.0.0.1:8080"]},
        "exporters": {"name": host.address, "listen": "127.0.0.1", "database": True, "nginx": True},
    }


def written(host: Host, name: str, text: str) -> None:
    """Where CLAWD_FIGURES names a folder, what was found is left there, for the documents."""
    if folder := os.environ.get("CLAWD_FIGURES"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        (Path(folder) / f"{name}-{host.release}.txt").write_text(text)


def test_lynis_index_is_above_75(host: Host) -> None:
    report = host_report(host)
    written(host, "lynis", report)
    index = int(re.search(r"^hardening_index=(\d+)$", report, re.MULTILINE)[1])  # type: ignore[index]
    assert index > LEAST_INDEX, "\n".join(line for line in report.splitlines() if "suggestion" in line)


def host_report(host: Host) -> str:
    return sandbox.execute(host.name, LYNIS, layout=host.layout, timeout=900)


def test_systemd_exposure_of_every_unit_is_low(host: Host) -> None:
    listed = host.on("cd /etc/systemd/system && ls -d clawd-*.service").split()
    assert len(listed) >= 4
    exposure = {}
    for unit in listed:
        text = host.on(f"systemd-analyze security --no-pager {unit} | tail -n 1")
        exposure[unit] = float(re.search(r": ([0-9.]+) ", text)[1])  # type: ignore[index]
    written(host, "systemd-analyze", "\n".join(f"{unit} {value}" for unit, value in exposure.items()))
    assert {unit: value for unit, value in exposure.items() if value > MOST_EXPOSURE} == {}


def test_ssh_audit_reports_no_failure(host: Host) -> None:
    """The last: a client that connects without a login, as it does, is refused for a while by OpenSSH 10."""
    words = [sys.executable, "-m", "ssh_audit.ssh_audit", "--json", "--skip-rate-test", host.address]
    completed = subprocess.run(words, capture_output=True, text=True, timeout=120)
    found = json.loads(completed.stdout)
    written(host, "ssh-audit", json.dumps(found, indent=1))
    listed = [entry for kind in ("kex", "key", "enc", "mac") for entry in found[kind]]
    assert len(listed) > 10
    failed = [entry["algorithm"] for entry in listed if entry["notes"].get("fail")]
    assert not failed
