"""hardening and the removal of base and firewall on real hosts, by the plain `pyinfra` command."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from gevent.event import Event

from deploys.artifacts import Supplies
from deploys.hardening.settings import SYSCTL
from inventory.load import LoadedInventory
from provision import sandbox
from provision.connection.session import Session
from provision.local.run_log import RunLog
from provision.plan import Status
from provision.progress import Silent
from provision.selection import Selection, assign
from tests.hosts import Box, Host, boxes, in_every_run, on_hosts, together, until

pytestmark = on_hosts(seconds=600)

SSHD = "/etc/ssh/sshd_config.d/05-clawd-hardening.conf"
LEFT = (
    "ls -d /etc/clawd /opt/clawd /etc/fail2ban /etc/ssh/sshd_config.d/*clawd* /etc/sudoers.d/clawd* "
    "/etc/apt/apt.conf.d/52clawd* /etc/sysctl.d/60-clawd.conf /etc/systemd/journald.conf.d/*clawd* "
    "/etc/profile.d/clawd* /etc/default/debsums /etc/systemd/system/clawd* "
    "/var/lib/clawd/state/*.stamp /var/lib/clawd/state/sysctl* /var/lib/clawd/state/packages/* 2>/dev/null; "
    "dpkg -l fail2ban unattended-upgrades nftables 2>/dev/null | grep ^ii; nft list tables 2>/dev/null; "
    "getent group clawd clawd-operators; systemctl is-active fail2ban | grep -x active; true"
)


box = boxes("clph", 94)


@pytest.fixture(scope="module")
def hosts(box: Box) -> dict[str, Host]:
    """Base, firewall and hardening, applied twice."""
    made = {release: Host(box, box.named(release)) for release in box.releases}
    together(made, lambda host: host.apply_twice(base={}, firewall={}, hardening={}))
    return made


@pytest.fixture(params=in_every_run("bookworm"))
def host(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Host:
    return hosts[request.param]


def failing_checks(host: Host, **hardening: Any) -> set[str]:
    """What `verify` finds wrong with the component."""
    found = host.verified(host.loaded(hardening=hardening), "hardening")
    assert len(found.checks) >= 6
    return {check.name for check in found.failed}


def test_checks_pass_after_up(host: Host) -> None:
    assert failing_checks(host) == set()


def test_refused_kernel_settings_are_noted_and_others_are_in_force(host: Host) -> None:
    refused = set(host.on("cat /var/lib/clawd/state/sysctl.refused").split())
    assert "kernel.kptr_restrict" in refused
    # A container has a network of its own: of that it may set all but this one, which is the machine's.
    others = {key for key in refused if not key.startswith(("kernel.", "fs.", "dev."))}
    assert others == {"net.core.bpf_jit_harden"}
    assert host.on("cat /proc/sys/net/ipv4/conf/all/rp_filter") == "2"


def test_core_dumps_are_disabled(host: Host) -> None:
    assert host.on("su -s /bin/sh nobody -c 'ulimit -Hc'") == "0"


def test_changed_package_file_is_reported(host: Host) -> None:
    changed = "/usr/bin/rdebsums"
    host.on(
        f"cp -p {changed} /root/unchanged; echo >> {changed}; systemctl start clawd-package-files; "
        f"mv -f /root/unchanged {changed}"
    )
    assert changed in host.on("journalctl -t debsums -o cat").splitlines()


def test_fail2ban_bans_a_client_with_failed_logins(host: Host) -> None:
    """The machine itself guesses, from an address of its own on the bridge: no other client is banned."""
    guesser = "10.213.94.201"
    subprocess.run(["ip", "address", "add", f"{guesser}/24", "dev", "clph"], check=True)
    try:
        for attempt in range(6):
            words = ["ssh", "-b", guesser, "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no"]
            words += ["-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=5"]
            # One that is shut out while it talks hears nothing more.
            with suppress(subprocess.TimeoutExpired):
                subprocess.run(
                    [*words, f"guess{attempt}@{host.address}", "true"], capture_output=True, timeout=8
                )
        until(lambda: guesser in host.on("nft list table inet f2b-table 2>/dev/null || true"), seconds=20)
        assert "table inet clawd" in host.on("nft list tables")
    finally:
        subprocess.run(["ip", "address", "del", f"{guesser}/24", "dev", "clph"], check=True)


def test_checks_report_damage_and_up_repairs_only_that(host: Host) -> None:
    host.on(
        f"echo PermitRootLogin yes > {SSHD}; systemctl reload ssh; systemctl stop fail2ban; "
        "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo > /etc/sudoers.d/clawd-hardening"
    )
    assert failing_checks(host) == {
        "failed logins are banned",
        "kernel settings in force",
        "ssh is closed to root and greets",
        "sudo rules",
    }
    assert host.apply(hardening={}) == {
        f"Write {SSHD}",
        "Service ssh",
        "Service fail2ban",
        "Kernel settings",
        "Write /etc/sudoers.d/clawd-hardening",
    }
    assert failing_checks(host) == set()


def test_declared_kernel_setting_is_applied_or_refused_and_restored_when_dropped(host: Host) -> None:
    key, unknown = "net.ipv4.conf.all.proxy_arp", "net.ipv4.no_such_setting"
    shown = "cat /proc/sys/net/ipv4/conf/all/proxy_arp"
    assert host.on(shown) == "0"
    host.apply(hardening={"sysctl": {**SYSCTL, key: 1}, "required": [key]})
    assert host.on(shown) == "1"
    assert failing_checks(host, sysctl={key: 1}) == set()
    assert failing_checks(host, sysctl={key: 1, unknown: 1}) == {"kernel settings in force"}
    output = host.refused(hardening={"sysctl": {**SYSCTL, key: 1, unknown: 1}, "required": [key, unknown]})
    assert f"kernel setting {unknown}: this host does not know it" in output
    assert host.on(shown) == "1"
    assert {"Kernel settings", "Write /etc/sysctl.d/60-clawd.conf"} <= host.apply(hardening={})
    assert host.on(shown) == "0"
    assert not host.apply(hardening={})
    assert failing_checks(host) == set()


def test_root_login_is_disabled_only_when_another_login_is_certain(host: Host) -> None:
    assert "permitrootlogin without-password" in host.on("sshd -T")
    host.apply(hardening={"root_login": False})
    as_operator = sandbox.ssh_command(host.name, user="operator", layout=host.layout)
    asked = subprocess.run([*as_operator, "sudo sshd -T"], capture_output=True, text=True)
    as_root = sandbox.ssh_command(host.name, user="root", layout=host.layout)
    refused = subprocess.run([*as_root, "true"], capture_output=True, text=True)
    host.apply(hardening={})
    assert "permitrootlogin no" in asked.stdout
    assert "Permission denied" in refused.stderr
    assert "Authorized use only" in refused.stderr
    assert host.on("id -un") == "root"


def test_laptops_with_different_known_host_keys_both_stay_connected(host: Host, tmp_path: Path) -> None:
    key = "/etc/ssh/ssh_host_ecdsa_key"
    host.on(f"ssh-keygen -q -t ecdsa -N '' -f {key}; rm {SSHD}; systemctl restart ssh")
    ecdsa = " ".join(host.on(f"cat {key}.pub").split()[:2])
    (tmp_path / "known_hosts").write_text(f"{host.address} {ecdsa}\n")
    by_ecdsa = host.loaded(known_hosts=str(tmp_path / "known_hosts"), hardening={})
    by_ed25519 = host.loaded(hardening={})
    try:
        assert f"Write {SSHD}" in hardened(host, by_ecdsa)
        offered = host.on("sshd -T | sed -n 's/^hostkeyalgorithms //p'").split(",")
        assert "ssh-ed25519" in offered
        assert not [algorithm for algorithm in offered if algorithm.startswith("ecdsa-")]
        for loaded in (by_ed25519, by_ecdsa, by_ed25519):
            assert hardened(host, loaded) == set()
    finally:
        host.on(f"rm -f {key} {key}.pub; systemctl reload ssh")
        host.apply(hardening={})


def hardened(host: Host, loaded: LoadedInventory) -> set[str]:
    """What a run of the program changes of the component, over a connection of its own."""
    with RunLog("test", host.folder / "log") as log, Session(loaded, (host.name,), log) as session:
        assert session.connect() == {}
        supplies = {host.name: Supplies(loaded.state_folder)}
        plan = session.prepare(
            assign(loaded.inventory, Selection(components=("hardening",))), supplies, Silent()
        )
        assert not plan.errors, plan.errors
        if plan.changes:
            (done,) = session.execute(plan, Silent(), Event())
            assert done.status is Status.DONE, done
        return {operation.name for operation in plan.for_host(host.name).changing}


def test_jail_refused_by_fail2ban_does_not_go_live(host: Host) -> None:
    before = host.on("sha256sum /etc/fail2ban/jail.d/*.local")
    host.refused(hardening={"fail2ban": {"never": ["%(no"]}})
    assert host.on("sha256sum /etc/fail2ban/jail.d/*.local; systemctl is-active fail2ban").split() == [
        *before.split(),
        "active",
    ]


def test_removal_leaves_nothing(host: Host) -> None:
    """Last: the host has nothing of the three components afterwards, and can still be logged in to."""
    assert {"/etc/clawd", "/etc/fail2ban", "/etc/default/debsums"} <= set(host.on(LEFT).split())
    for components in (("firewall", "hardening"), ("base",)):
        assert host.remove(*components)
        assert not host.remove(*components), "removed again"
    assert host.on(LEFT) == ""
    assert host.on("head -n 1 -q /etc/issue /etc/issue.net").count("Debian GNU/Linux") == 2
    assert host.on("cat /proc/sys/net/ipv4/conf/all/rp_filter") == "0"
    assert host.on("sshd -t && systemctl is-active ssh") == "active"
    assert sandbox.execute(host.name, "sudo id -un", user="operator", layout=host.layout) == "root\n"
