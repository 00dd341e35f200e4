"""Checks of the foundation, read-only."""

from __future__ import annotations

import time
from typing import Any

import pytest

from deploys.base.deploy import JOURNALD, OPERATORS, SSHD_FILES, SUDOERS, authorized_keys
from deploys.base.settings import BaseSettings
from deploys.ops.checks import (
    expect,
    expect_content,
    expect_original,
    expect_owner,
    expect_started_with,
    said,
)
from deploys.ops.programs import program

FOLDERS = {
    "/etc/clawd": 0o755,
    "/etc/clawd/secrets": 0o700,
    "/opt/clawd": 0o755,
    "/usr/local/lib/clawd": 0o755,
    "/var/lib/clawd": 0o755,
    "/var/lib/clawd/state": 0o700,
}
WRITTEN = ("/", "/tmp", "/var", "/var/lib/clawd", "/var/log", "/opt/clawd")  # noqa: S108
"""The folders whose file systems need free space on every host."""
LEAST_FREE = 64 << 20
LEAST_INODES = 100
MOST_SKEW_S = 60
STRANGER = "clawd-nobody"


def test_packages_installed(host: Any, settings: BaseSettings) -> None:
    missing = [name for name in settings.packages if not host.package(name).is_installed]
    expect(not missing, f"not installed: {', '.join(missing)}")


@pytest.mark.parametrize("path", FOLDERS)
def test_folder(host: Any, path: str) -> None:
    expect(host.file(path).is_directory, f"{path} is not a folder")
    expect_owner(host, path, "root", FOLDERS[path], group="root")


def test_disks_have_room_and_can_be_written(host: Any) -> None:
    shown = host.check_output("sh -c %s sh " + " ".join(["%s"] * len(WRITTEN)), ROOM, *WRITTEN)
    for line in shown.splitlines():
        path, options, free, inodes = line.split()
        hint = "read `journalctl -k` on the host for disk errors, then `mount -o remount,rw` it"
        expect("rw" in options.split(","), f"{path} is mounted read-only", hint)
        hint = f"`du -xh --max-depth=2 {path} | sort -h` on the host shows what takes the space"
        expect(int(free) >= LEAST_FREE, f"the disk of {path} is full: {int(free) >> 20} MiB are free", hint)
        # Some file systems create inodes on demand, and report no number.
        full = inodes != "-" and int(inodes) < LEAST_INODES
        expect(not full, f"the disk of {path} has only {inodes} inodes left: too many files", hint)


def test_clock_agrees_with_this_computer(host: Any) -> None:
    off = int(host.check_output("date +%s")) - time.time()
    expect(
        abs(off) <= MOST_SKEW_S,
        f"its clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} this machine's",
        "compare both with the real time; `timedatectl` on the host shows whether it is synchronized",
    )


def test_sshd_as_declared(host: Any, settings: BaseSettings) -> None:
    common = {"pubkeyauthentication yes", "passwordauthentication no", "kbdinteractiveauthentication no"}
    wanted = {
        *common,
        *((f"port {settings.ssh_port}",) if settings.ssh_port else ()),
        "x11forwarding no",
        "clientaliveinterval 15",
    }
    hint = "a file in /etc/ssh/sshd_config.d that sorts before ours, or a Match block, overrides it"
    # A Match block may apply to one user only.
    for user in ("root", STRANGER, *(operator.name for operator in settings.operators)):
        shown = host.check_output("/usr/sbin/sshd -T -C %s", f"user={user},host=stranger,addr=192.0.2.1")
        effective = set(shown.splitlines())
        lacking = ", ".join(sorted(wanted - effective))
        expect(not lacking, f"settings missing in sshd for {user}: {lacking}", hint)
        if user == "root":
            by_key_at_most = {"permitrootlogin without-password", "permitrootlogin no"}
            expect(by_key_at_most & effective, "root may log in with a password", hint)


def test_sshd_runs_with_its_configuration(host: Any) -> None:
    expect_started_with(host, "ssh.service", watch=SSHD_FILES)
    expect_original(host, "/usr/sbin/sshd", "/usr/bin/sudo")


def test_sshd_offers_keys_only(host: Any) -> None:
    result = host.run("sh -c %s", OFFERED)
    expect(
        result.rc == 0,
        f"the sshd that runs offers more than keys: {said(result)}",
        "`systemctl cat ssh` shows whether it is started with other options",
    )


def test_journal_limited(host: Any, settings: BaseSettings) -> None:
    expect_started_with(host, "systemd-journald.service", watch=(JOURNALD,))
    lines = host.file(JOURNALD).content_string.splitlines()
    expect(f"SystemMaxUse={settings.journal_max}" in lines, f"{JOURNALD} is not as declared")


def test_time_zone(host: Any, settings: BaseSettings) -> None:
    wanted = host.check_output("readlink -f %s", f"/usr/share/zoneinfo/{settings.time_zone}")
    found = host.file("/etc/localtime").linked_to
    expect(found == wanted, f"the time zone is {found}, and should be {settings.time_zone}")


def test_operators_may_log_in_with_their_keys(host: Any, settings: BaseSettings) -> None:
    for operator in settings.operators:
        expect(host.user(operator.name).exists, f"there is no login {operator.name}")
        keys = f"{host.user(operator.name).home}/.ssh/authorized_keys"
        expect_content(host, keys, authorized_keys(operator))
        expect_owner(host, keys, operator.name, 0o600)


def test_no_undeclared_operators(host: Any, settings: BaseSettings) -> None:
    members = set(host.check_output("getent group %s | cut -d: -f4", OPERATORS).split(",")) - {"", "root"}
    others = ", ".join(sorted(members - {operator.name for operator in settings.operators}))
    expect(not others, f"in the group {OPERATORS} and not declared: {others}")


def test_operators_may_use_sudo(host: Any, settings: BaseSettings) -> None:
    lines = host.file(SUDOERS).content_string.splitlines()
    granted = {line.split()[0] for line in lines if line and not line.startswith("#")}
    declared = {operator.name for operator in settings.operators}
    differing = ", ".join(sorted(granted ^ declared))
    expect(not differing, f"{SUDOERS} grants sudo to others than the operators: {differing}")


ROOM = program("deploys/base/scripts/room.sh")

OFFERED = program("deploys/base/scripts/offered.sh")
