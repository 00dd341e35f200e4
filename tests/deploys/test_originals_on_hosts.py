"""On real hosts: what the administrator had is kept while components are there, and is back without them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hosts import Box, Host, boxes, in_every_run, on_hosts

pytestmark = on_hosts(seconds=420)
box = boxes("clawdo", 71)

ANY = {"requests_per_second": 10000, "burst": 10000}
LIMITS = dict.fromkeys(("telegram", "feishu", "console", "health"), ANY)
PASSING = {"upstreams": ["127.0.0.1:8080"], **LIMITS}
FIREWALL = {"openings": [{"port": 80}]}
NFTABLES = r"#!/usr/sbin/nft -f\nflush ruleset\ntable inet theirs {\n\tchain input {\n\t}\n}\n"
DROP_IN = "/etc/systemd/system/nginx.service.d"
SEEN = (
    "cat /etc/nftables.conf; stat -c '%a %U %n' /etc/nftables.conf /etc/ssh/sshd_config.d/10-clawd.conf; "
    "cat /etc/ssh/sshd_config.d/10-clawd.conf; readlink /etc/localtime; cat /etc/timezone; "
    "cat /etc/systemd/journald.conf.d/10-clawd.conf; readlink /etc/nginx/sites-enabled/default; "
    f"sha256sum /etc/nginx/nginx.conf; ls {DROP_IN}; nft list tables; "
    "systemctl is-active nginx nftables; systemctl is-enabled nginx nftables; curl -s http://127.0.0.1/; "
    "dpkg-query -W -f='${Package} ${db:Status-Status}\\n' nginx nginx-common nftables"
)


ADMINISTRATOR = f"""
apt-get -qq update
apt-get install -qq -y --no-install-recommends nginx nftables curl >/dev/null
mkdir -p {DROP_IN} /etc/systemd/journald.conf.d
printf '[Service]\\nNice=1\\n' > {DROP_IN}/theirs.conf
systemctl daemon-reload
printf '{NFTABLES}' > /etc/nftables.conf
chmod 700 /etc/nftables.conf
systemctl enable --now -q nftables nginx
echo '# theirs' > /etc/ssh/sshd_config.d/10-clawd.conf
echo '[Journal]' > /etc/systemd/journald.conf.d/10-clawd.conf
ln -sfn /usr/share/zoneinfo/Asia/Tokyo /etc/localtime
echo Asia/Tokyo > /etc/timezone
sleep 1
"""


@pytest.fixture(params=in_every_run("bookworm"))
def host(request: pytest.FixtureRequest, box: Box) -> Host:
    return Host(box, box.named(request.param))


def test_removal_restores_files_and_services_of_the_administrator(host: Host) -> None:
    host.on(ADMINISTRATOR)
    before = host.on(SEEN)
    assert "table inet theirs" in before
    settings: dict[str, Any] = {
        "base": {"time_zone": "Asia/Shanghai", "upgrade": "never"},
        "firewall": FIREWALL,
        "tls": {"names": [host.address], "mode": "self-signed"},
        "nginx": PASSING,
    }
    first = host.attempt(**settings)
    assert first.succeeded, first.output
    assert host.on("readlink /etc/localtime") == "/usr/share/zoneinfo/Asia/Shanghai"
    kept = host.on("find /var/lib/clawd/state/originals -path '*/files/*' ! -type d | sort")
    assert "base/files/etc/localtime" in kept
    assert "firewall/files/etc/nftables.conf" in kept
    assert "base/files/etc/ssh/sshd_config.d/10-clawd.conf" in kept
    assert not host.apply(**settings)
    host.remove("nginx", "tls", "firewall", "base")
    assert host.on(SEEN) == before
    assert host.on("ls /var/lib/clawd/state/originals 2>/dev/null || true") == ""


def test_firewall_rules_of_the_administrator_survive_reboot_and_removal(host: Host) -> None:
    host.on(
        "apt-get install -qq -y --no-install-recommends nftables >/dev/null; "
        f"printf '{NFTABLES}' > /etc/nftables.conf; systemctl enable --now -q nftables"
    )
    host.apply(firewall=FIREWALL)
    host.on("nft delete table inet theirs; nft add table inet of_another")
    host.remove("firewall")
    assert host.on("nft list tables").splitlines() == ["table inet of_another", "table inet theirs"]
    host.on("nft flush ruleset")
