"""A sandbox comes and goes, and this machine's own network is as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision import sandbox
from provision.sandbox import Layout

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

# A network of its own with an uplink and a firewall: what other tests do to this machine's does not matter.
MACHINE = """
set -e
mkdir "$1/groups"
mount --rbind /sys/fs/cgroup "$1/groups"
mount -t sysfs sysfs /sys
mount --rbind "$1/groups" /sys/fs/cgroup
# Addresses that a link gives itself come and go in their own time.
echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6
ip link set lo up
ip link add up0 type veth peer name up1
ip link set up1 up
ip address add 192.0.2.1/24 dev up0
ip link set up0 up
ip route add default via 192.0.2.254
ip rule add from 192.0.2.1 table 77
nft -f - <<END
table inet machine {
    chain input {
        type filter hook input priority 0; policy drop;
        iif lo accept
        ct state established accept
    }
}
END
echo 0 > /proc/sys/net/ipv4/ip_forward
shift
exec "$@"
"""
COME_AND_GO = """
import json, subprocess, sys
from pathlib import Path
from provision import sandbox
from provision.sandbox import claims
folder, bridge, subnet, table = sys.argv[1:]
claims.FOLDER = Path(folder).parent / "run"

def network():
    shown = ("ip -br link", "ip -br address", "ip route show table all", "ip rule", "nft list ruleset")
    run = lambda line: subprocess.run(line.split(), capture_output=True, text=True, check=True).stdout
    outputs = {line: run(line) for line in shown}
    files = ("/proc/sys/net/ipv4/ip_forward", "/etc/resolv.conf", "/etc/hosts", "/etc/nftables.conf")
    return outputs | {file: Path(file).read_text() if Path(file).exists() else None for file in files}

from ipaddress import IPv4Network
box = sandbox.Layout(Path(folder), bridge=bridge, subnet=IPv4Network(subnet), table=table)
seen = [network()]
try:
    sandbox.up(2, layout=box)
    seen.append(network())
finally:
    sandbox.down(layout=box, purge=True)
seen.append(network())
print(json.dumps(seen))
"""


@pytest.fixture
def box(tmp_path: Path) -> Layout:
    number = 200 + os.getpid() % 50
    box = Layout(
        folder=tmp_path / ".sandbox",
        bridge=f"cn{number}",
        subnet=IPv4Network(f"10.213.{number}.0/24"),
        table=f"clawd_net_{number}",
    )
    # Its image, which takes the world to make.
    sandbox.up(layout=box)
    sandbox.down(layout=box, purge=True)
    return box


def test_network_of_the_machine_is_restored_after_a_sandbox(box: Layout, tmp_path: Path) -> None:
    hosts = [sys.executable, "-c", COME_AND_GO, str(box.folder), box.bridge, str(box.subnet), box.table]
    done = subprocess.run(
        ["unshare", "--net", "--mount", "sh", "-c", MACHINE, "sh", str(tmp_path), *hosts],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, between, after = json.loads(done.stdout)
    assert box.bridge in between["ip -br link"]
    assert between["/proc/sys/net/ipv4/ip_forward"] == "1\n"
    assert f"table ip {box.table}" in between["nft list ruleset"]
    assert "table inet machine" in before["nft list ruleset"]
    assert after == before
    untouched = ("ip rule", "/etc/resolv.conf", "/etc/hosts", "/etc/nftables.conf")
    assert {what: between[what] for what in untouched} == {what: before[what] for what in untouched}
