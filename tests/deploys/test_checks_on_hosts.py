"""Every check goes red when what it is about breaks, and says what is wrong and what to do.

Damages that do not touch each other are done together, a verification a round.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from provision.verification.run import Check
from tests.hosts import Box, Host, boxes, in_every_run, on_hosts

pytestmark = on_hosts(seconds=600)

COMPONENTS = ("base", "firewall", "hardening")
APT = "/etc/apt/apt.conf.d/99zz"
RELOAD = "systemctl daemon-reload"

box = boxes("clck", 119)


@dataclass(frozen=True)
class Damage:
    """What is done on the host and undone, the check that finds it, and words of what it says."""

    done: str
    undone: str
    check: str
    said: str


def masked(unit: str, check: str) -> Damage:
    return Damage(
        f"systemctl mask --now {unit}",
        f"systemctl unmask {unit}; systemctl start {unit}",
        check,
        f"{unit} is masked, so it cannot run",
    )


def drop_in(unit: str, text: str, check: str, said: str, *, start: str = "true") -> Damage:
    folder = f"/etc/systemd/system/{unit}.d"
    return Damage(
        f"mkdir -p {folder}; printf '{text}' > {folder}/override.conf; {RELOAD}; {start}",
        f"rm -r {folder}; {RELOAD}; {start}",
        check,
        said,
    )


ROUNDS: tuple[tuple[Damage, ...], ...] = (
    (
        masked("apt-daily-upgrade.timer", "security updates are started"),
        masked("fail2ban.service", "failed logins are banned"),
        masked("nftables.service", "loaded at boot"),
        Damage(
            f"echo 'APT::Periodic::Enable \"0\";' > {APT}",
            f"rm {APT}",
            "security updates are enabled",
            "APT::Periodic::Enable is 0: nothing is updated",
        ),
        Damage(
            "cp /etc/apt/sources.list /root/sources; sed -i /security/d /etc/apt/sources.list; "
            "rm -f /etc/apt/sources.list.d/*security*",
            "mv /root/sources /etc/apt/sources.list",
            "security updates have a source",
            "apt has no source of security updates",
        ),
        Damage(
            "cp /etc/ssh/sshd_config /root/sshd; printf 'Match User root\\n  PasswordAuthentication yes\\n' "
            ">> /etc/ssh/sshd_config",
            "mv /root/sshd /etc/ssh/sshd_config",
            "sshd as declared",
            "settings missing in sshd for root: passwordauthentication no",
        ),
        Damage("nft flush ruleset", "nft -f /etc/nftables.conf", "closed by default", "not loaded"),
    ),
    (
        masked("apt-daily.timer", "security updates are started"),
        Damage(
            f"echo 'APT::Periodic::Unattended-Upgrade \"0\";' > {APT}",
            f"rm {APT}",
            "security updates are enabled",
            "APT::Periodic::Unattended-Upgrade is 0",
        ),
        Damage(
            "fail2ban-client stop sshd",
            "fail2ban-client reload",
            "failed logins are banned",
            "fail2ban does not watch sshd",
        ),
        drop_in(
            "nftables.service",
            "[Service]\\nExecStart=\\nExecStart=/bin/true\\n",
            "loaded at boot",
            "nftables.service is changed by /etc/systemd/system/nftables.service.d/override.conf",
        ),
        drop_in(
            "ssh.service",
            "[Service]\\nExecStart=\\nExecStart=/usr/sbin/sshd -D -o PasswordAuthentication=yes\\n",
            "sshd offers keys only",
            "offers more than keys: publickey,password",
            start="systemctl restart ssh",
        ),
        Damage(
            "mount -t tmpfs -o ro tmpfs /opt/clawd",
            "umount /opt/clawd",
            "disks have room and can be written",
            "/opt/clawd is mounted read-only",
        ),
    ),
    (
        drop_in(
            "apt-daily-upgrade.timer",
            "[Timer]\\nOnCalendar=\\nOnCalendar=*-01-01\\nRandomizedDelaySec=0\\n",
            "security updates are started",
            "apt-daily-upgrade.timer is changed by",
            start="systemctl restart apt-daily-upgrade.timer",
        ),
        Damage(
            f"echo 'Unattended-Upgrade::Package-Blacklist {{ \".*\"; }};' > {APT}",
            f"rm {APT}",
            "security updates are enabled",
            "unattended-upgrades leaves out every package: .*",
        ),
        Damage(
            "fail2ban-client set sshd addignoreip 0.0.0.0/0",
            "fail2ban-client set sshd delignoreip 0.0.0.0/0",
            "failed logins are banned",
            "fail2ban never bans 0.0.0.0",
        ),
        Damage(
            "cp -a /usr/bin/sudo /root/sudo; printf x >> /usr/bin/sudo",
            "mv /root/sudo /usr/bin/sudo",
            "sshd runs with its configuration",
            "not as installed by its package: /usr/bin/sudo",
        ),
        Damage(
            "mount -t tmpfs -o size=1m tmpfs /opt/clawd",
            "umount /opt/clawd",
            "disks have room and can be written",
            "the disk of /opt/clawd is full",
        ),
        Damage(
            "systemctl disable nftables",
            "systemctl enable nftables",
            "loaded at boot",
            "does not start at boot",
        ),
    ),
    (
        drop_in(
            "apt-daily-upgrade.service",
            "[Service]\\nExecStart=\\nExecStart=/bin/true\\n",
            "security updates are started",
            "apt-daily-upgrade.service is changed by",
        ),
        Damage(
            "sed -i s/=weekly/=never/ /etc/default/debsums",
            "sed -i s/=never/=weekly/ /etc/default/debsums",
            "files of packages are compared",
            "/etc/default/debsums is not as declared",
        ),
        Damage(
            "systemctl stop fail2ban",
            "systemctl start fail2ban",
            "failed logins are banned",
            "inactive",
        ),
    ),
)


@pytest.fixture(scope="module", params=in_every_run("bookworm"))
def host(request: pytest.FixtureRequest, box: Box) -> Host:
    """A host of these components where every check holds."""
    made = Host(box, box.named(request.param))
    made.apply(base={}, firewall={"openings": [{"port": 80}, {"port": 443}]}, hardening={})
    found = failed(made)
    assert found == {}, {name: check.message for name, check in found.items()}
    return made


def failed(host: Host) -> dict[str, Check]:
    return {check.name: check for check in host.verified(host.loaded(), *COMPONENTS).failed}


@pytest.mark.parametrize("number", range(len(ROUNDS)))
def test_check_fails_for_its_damage_with_problem_and_hint(host: Host, number: int) -> None:
    damages = ROUNDS[number]
    try:
        for damage in damages:
            host.on(damage.done)
        found = failed(host)
    finally:
        for damage in damages:
            host.on(damage.undone)
    for damage in damages:
        assert damage.check in found, f"green all the same: {damage.done}"
        check = found[damage.check]
        assert damage.said in check.message
        assert check.hint
        for internal in ("assert", "CommandResult", "Error(", "site-packages", ".py"):
            assert internal not in check.message
    left = failed(host)
    assert left == {}, {name: check.message for name, check in left.items()}


def test_up_unmasks_a_needed_unit_and_removal_masks_it_again(host: Host) -> None:
    host.on("systemctl mask --now apt-daily-upgrade.timer")
    assert "Service apt-daily-upgrade.timer" in host.apply(hardening={})
    assert failed(host) == {}
    host.remove("hardening")
    assert host.on("systemctl is-enabled apt-daily-upgrade.timer || true") == "masked"
    host.on("systemctl unmask apt-daily-upgrade.timer")
