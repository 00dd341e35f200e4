"""hardening and the removal of base and firewall on real hosts, by the plain `pyinfra` command."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from typing import Any

import pytest

from inventory.load import load
from provision import sandbox
from provision.assign import Selection, assign
from provision.sandbox import Layout
from provision.verify import verify
from tests.deploys.test_on_hosts import Applied, Host

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

RELEASES = ("bookworm", "trixie")
SSHD = "/etc/ssh/sshd_config.d/05-clawd-hardening.conf"
LEFT = (
    "ls -d /etc/clawd /opt/clawd /etc/fail2ban /etc/ssh/sshd_config.d/*clawd* /etc/sudoers.d/clawd* "
    "/etc/apt/apt.conf.d/52clawd* /etc/sysctl.d/60-clawd.conf /etc/systemd/journald.conf.d/*clawd* "
    "/var/lib/clawd/state/*.stamp /var/lib/clawd/state/sysctl* /var/lib/clawd/state/packages/* 2>/dev/null; "
    "dpkg -l fail2ban unattended-upgrades nftables 2>/dev/null | grep ^ii; nft list tables 2>/dev/null; "
    "getent group clawd clawd-operators; systemctl is-active fail2ban | grep -x active; true"
)


def remove(host: Host, component: str) -> Applied:
    process = host.start(f"deploys.{component}.deploy.remove")
    output, _ = process.communicate(timeout=240)
    return Applied.read(process.returncode, output)


def failing_checks(host: Host, **hardening: Any) -> set[str]:
    """What `verify` finds wrong with the component."""
    secret = host.folder / "password"
    secret.write_text("x" * 40)
    secret.chmod(0o600)
    file = host.folder / f"hardening-{host.name}.yml"
    declared = {"address": host.address, "user": "operator", "ssh_key": str(host.layout.key)}
    models = {"default": {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}}
    whole = {"known_hosts": str(host.layout.known_hosts), "hosts": {host.name: declared}, "models": models}
    file.write_text(json.dumps({**whole, "hardening": hardening}))
    loaded = load(file)
    found = verify(loaded, assign(loaded.inventory, Selection(components=("hardening",))))
    assert len(found.checks) >= 6
    return {check.name for check in found.failed}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    folder = tmp_path_factory.mktemp("hardening") / ".sandbox"
    box = Layout(folder, bridge="clph", subnet=IPv4Network("10.213.94.0/24"), table="clawd_hard_test")
    try:
        sandbox.up(len(RELEASES), RELEASES, layout=box)
        yield box
    finally:
        sandbox.down(layout=box, purge=True)


@pytest.fixture(scope="module")
def hosts(box: Layout) -> dict[str, Host]:
    """Both hosts with base, firewall and hardening, each applied twice."""
    made = {name: Host(name, box, box.folder.parent) for name in ("bot1", "bot2")}

    def build(host: Host) -> None:
        for component in ("base", "firewall", "hardening"):
            first = host.apply(component)
            assert first.succeeded, first.output
            second = host.apply(component)
            assert second.succeeded, second.output
            assert not second.changed, f"{component} changes again: {second.changed}"
        again = host.apply("base")
        assert not again.changed, f"base changes after hardening: {again.changed}"

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, made.values()))
    return made


@pytest.fixture(params=["bot1", "bot2"], ids=RELEASES)
def host(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Host:
    return hosts[request.param]


def test_checks_hold(host: Host) -> None:
    assert failing_checks(host) == set()


def test_what_a_host_refuses_is_noted_by_name_and_the_rest_is_set(host: Host) -> None:
    refused = host.on("cat /var/lib/clawd/state/sysctl.refused").split()
    assert "kernel.kptr_restrict" in refused
    assert not any(key.startswith("net.") for key in refused)
    assert host.on("cat /proc/sys/net/ipv4/conf/all/rp_filter") == "2"


def test_who_guesses_logins_is_shut_out(hosts: dict[str, Host]) -> None:
    """The machine itself guesses, from an address of its own on the bridge: nobody else is shut out."""
    for number, host in enumerate(hosts.values(), 201):
        guesser = f"10.213.94.{number}"
        subprocess.run(["ip", "address", "add", f"{guesser}/24", "dev", "clph"], check=True)
        try:
            for attempt in range(6):
                words = ["ssh", "-b", guesser, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
                words += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]
                subprocess.run([*words, f"guess{attempt}@{host.address}", "true"], capture_output=True)
            deadline = time.monotonic() + 20
            while guesser not in host.on("nft list table inet f2b-table 2>/dev/null || true"):
                assert time.monotonic() < deadline, host.on("fail2ban-client status sshd")
                time.sleep(0.5)
            assert "table inet clawd" in host.on("nft list tables")
        finally:
            subprocess.run(["ip", "address", "del", f"{guesser}/24", "dev", "clph"], check=True)


def test_damage_is_named_and_exactly_that_is_repaired(host: Host) -> None:
    host.on(
        f"echo PermitRootLogin yes > {SSHD}; systemctl reload ssh; systemctl stop fail2ban; "
        "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo > /etc/sudoers.d/clawd-hardening"
    )
    assert failing_checks(host) == {
        "guessing of logins is punished",
        "kernel settings in force",
        "ssh is closed to root and greets",
        "sudo rules",
    }
    repaired = host.apply("hardening")
    assert repaired.succeeded, repaired.output
    assert repaired.changed == {
        f"Write {SSHD}",
        "Service ssh",
        "Service fail2ban",
        "Kernel settings",
        "Write /etc/sudoers.d/clawd-hardening",
    }
    assert failing_checks(host) == set()


def test_root_is_shut_out_only_when_another_login_is_certain(host: Host) -> None:
    assert "permitrootlogin without-password" in host.on("sshd -T")
    assert host.apply("hardening", root_login=False).succeeded
    as_operator = sandbox.ssh_command(host.name, user="operator", layout=host.layout)
    asked = subprocess.run([*as_operator, "sudo sshd -T"], capture_output=True, text=True)
    as_root = sandbox.ssh_command(host.name, user="root", layout=host.layout)
    refused = subprocess.run([*as_root, "true"], capture_output=True, text=True)
    assert host.apply("hardening").succeeded
    assert "permitrootlogin no" in asked.stdout
    assert "Permission denied" in refused.stderr
    assert "Authorized use only" in refused.stderr
    assert host.on("id -un") == "root"


def test_a_jail_that_fail2ban_refuses_never_goes_live(host: Host) -> None:
    before = host.on("sha256sum /etc/fail2ban/jail.d/*.local")
    run = host.apply("hardening", fail2ban={"ban": "soon", "within": "%(no"})
    assert not run.succeeded
    assert host.on("sha256sum /etc/fail2ban/jail.d/*.local; systemctl is-active fail2ban").split() == [
        *before.split(),
        "active",
    ]


def test_removed_with_nothing_left(hosts: dict[str, Host]) -> None:
    """Last: neither host has anything of the three components afterwards, and can still be logged in to."""

    def take_off(host: Host) -> None:
        for component in ("firewall", "hardening", "base"):
            run = remove(host, component)
            assert run.succeeded, run.output
            again = remove(host, component)
            assert again.succeeded, again.output
            assert not again.changed, f"{component} is removed again: {again.changed}"

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(take_off, hosts.values()))
    for host in hosts.values():
        assert host.on(LEFT) == ""
        assert host.on("cat /proc/sys/net/ipv4/conf/all/rp_filter") == "0"
        assert host.on("sshd -t && systemctl is-active ssh") == "active"
        assert sandbox.execute(host.name, "sudo id -un", user="operator", layout=host.layout) == "root\n"
