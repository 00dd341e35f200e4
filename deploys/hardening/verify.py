"""Checks of hardening, read-only."""

from __future__ import annotations

import re
from ipaddress import ip_network
from typing import Any

from deploys.base.deploy import SSHD_FILES
from deploys.hardening.deploy import (
    BANNER,
    BANS,
    JAIL,
    PACKAGE_FILES,
    PACKAGE_FILES_CHECK,
    PACKAGE_FILES_UNITS,
    SUDOERS,
    TIMERS,
    TIMESYNCD,
    UPDATES,
    UPGRADES,
    ClockFact,
    TimeKeeping,
)
from deploys.hardening.settings import HardeningSettings
from deploys.hardening.sysctl import SettingsFact
from deploys.ops.checks import (
    expect,
    expect_content,
    expect_original,
    expect_owner,
    expect_started_with,
    expect_timer,
    expect_unit,
    said,
)
from deploys.ops.programs import program
from deploys.os_releases import release_of

MOST_EXPOSURE = 30
"""Most exposure that `systemd-analyze security` may report, in tenths: 3.0 of 10."""
IGNORED = re.compile(r"^[|`]- (\S+)", re.MULTILINE)

SYNCHRONIZED = program("deploys/hardening/scripts/synchronized.sh")


def test_failed_logins_are_banned(host: Any, settings: HardeningSettings) -> None:
    if settings.fail2ban is None:
        return
    expect_started_with(host, "fail2ban.service", watch=(JAIL,))
    answer = host.run("fail2ban-client get sshd maxretry")
    log = "read `journalctl -u fail2ban` on the host; `fail2ban-client status` lists what is watched"
    expect(answer.rc == 0, f"fail2ban does not watch sshd: {said(answer)}", log)
    tries = settings.fail2ban.tries
    expect(
        answer.stdout.strip() == str(tries), f"fail2ban bans after {answer.stdout.strip()} tries, not {tries}"
    )
    expect(host.run(BANS).rc == 0, "fail2ban sees failures and bans no address", log)
    watched = host.check_output("fail2ban-client status sshd")
    expect("_SYSTEMD_UNIT=ssh.service" in watched, "fail2ban does not read the journal of sshd", log)
    ignored = set(IGNORED.findall(host.check_output("fail2ban-client get sshd ignoreip")))
    more = ignored - {str(ip_network(network)) for network in settings.fail2ban.never}
    more -= {network.partition("/")[0] for network in settings.fail2ban.never}
    undeclared = ", ".join(sorted(more - set(settings.fail2ban.never)))
    expect(not undeclared, f"fail2ban never bans {undeclared}", "a file in /etc/fail2ban sets ignoreip")


def test_security_updates_are_enabled(host: Any, settings: HardeningSettings) -> None:
    if not settings.updates:
        expect(not host.file(UPDATES).exists, f"{UPDATES} is there, and updates are not declared")
        return
    clock = clock_of(host)
    release = release_of(clock.id, clock.version)
    dumped = host.check_output("apt-config dump Unattended-Upgrade; apt-config dump APT::Periodic")
    found = dict(line.rstrip(";").split(" ", 1) for line in dumped.splitlines() if " " in line)
    origins = [
        line.split('"')[1] for line in dumped.splitlines() if "Pattern::" in line or "Origins::" in line
    ]
    hint = "a file in /etc/apt/apt.conf.d that sorts after ours overrides it: see `apt-config dump`"
    expect(release is not None, f"{clock.id} {clock.version} is not a known release")
    expect(
        release is not None and tuple(origins) == release.security,
        f"unattended-upgrades takes updates from {'; '.join(origins) or 'nowhere'}",
        hint,
    )
    for name in ("Enable", "Update-Package-Lists", "Unattended-Upgrade"):
        value = found.get(f"APT::Periodic::{name}", '"1"' if name == "Enable" else '"0"').strip('"')
        expect(
            value not in ("0", ""), f"APT::Periodic::{name} is {value or 'empty'}: nothing is updated", hint
        )
    held = [
        line.split('"')[1]
        for line in dumped.splitlines()
        if line.startswith("Unattended-Upgrade::Package-Bl")
    ]
    every = [pattern for pattern in held if pattern and matches_anything(pattern)]
    expect(not every, f"unattended-upgrades leaves out every package: {', '.join(every)}", hint)
    expect(host.package(UPGRADES).is_installed, f"{UPGRADES} is not installed")
    expect_original(host, "/usr/bin/unattended-upgrade")


def test_security_updates_are_started(host: Any, settings: HardeningSettings) -> None:
    if settings.updates:
        for timer in TIMERS:
            expect_timer(host, timer, hours=26)


def test_security_updates_have_a_source(host: Any, settings: HardeningSettings) -> None:
    if not settings.updates:
        return
    listed = host.check_output(
        "apt-get indextargets --format %s %s", "$(LABEL) $(SUITE)", "Created-By: Packages"
    ).splitlines()
    expect(
        any("security" in line.lower() for line in listed),
        f"apt has no source of security updates; it has {'; '.join(sorted(set(listed))) or 'none'}",
        "restore it in /etc/apt/sources.list or /etc/apt/sources.list.d, then `apt-get update`",
    )


def test_kernel_settings_in_force(host: Any, settings: HardeningSettings) -> None:
    fact = SettingsFact()
    state = fact.process(host.check_output(fact.command(tuple(settings.sysctl))).splitlines())
    excused = state.refused - frozenset(settings.required)
    differing = [
        f"{key} is {state.values.get(key, 'not known to this host')}, and {value} is declared"
        for key, value in sorted(settings.sysctl.items())
        if state.values.get(key) != value and key not in excused
    ]
    refused = f"; noted as refused: {', '.join(sorted(excused))}" if excused else ""
    expect(not differing, f"other kernel settings are in force: {'; '.join(differing)}{refused}")


def test_ssh_is_closed_to_root_and_greets(host: Any, settings: HardeningSettings) -> None:
    expect_started_with(host, "ssh.service", watch=SSHD_FILES)
    shown = host.check_output("/usr/sbin/sshd -T -C %s", "user=root,host=stranger,addr=192.0.2.1")
    effective = set(shown.splitlines())
    hint = "a file in /etc/ssh/sshd_config.d that sorts before ours, or a Match block, overrides it"
    if not settings.root_login:
        expect("permitrootlogin no" in effective, "root may log in", hint)
    expect("passwordauthentication no" in effective, "root may log in with a password", hint)
    banner = BANNER if settings.banner else "none"
    expect(f"banner {banner}" in effective, f"sshd does not show the banner {banner}", hint)
    if settings.banner:
        expect_content(host, BANNER, f"{settings.banner.rstrip()}\n")


def test_sudo_rules(host: Any) -> None:
    expect_owner(host, SUDOERS, "root", 0o440)
    lines = host.file(SUDOERS).content_string.splitlines()
    expect("Defaults use_pty" in lines, f"{SUDOERS} is not as declared")
    checked = host.run("/usr/sbin/visudo -c")
    expect(checked.rc == 0, f"visudo refuses the rules of sudo: {said(checked)}")


def test_files_of_packages_are_compared(host: Any) -> None:
    expect_timer(host, PACKAGE_FILES_UNITS[1], hours=7 * 24 + 7)
    lines = host.file(PACKAGE_FILES).content_string.splitlines()
    expect("CRON_CHECK=weekly" in lines, f"{PACKAGE_FILES} is not as declared")
    expect(
        host.file(PACKAGE_FILES_CHECK).exists, f"{PACKAGE_FILES_CHECK} is missing: debsums is not installed"
    )


def test_time_is_kept(host: Any) -> None:
    clock = clock_of(host)
    if clock.container:
        return  # the machine that runs it keeps the time; base compares it with the laptop's
    if clock.other:
        expect_unit(host, f"{clock.other}.service")
    else:
        expect_started_with(host, "systemd-timesyncd.service", watch=(TIMESYNCD,))
    done = host.run("sh -c %s", SYNCHRONIZED)
    expect(
        done.rc == 0,
        "its clock is not synchronized with any time server",
        "`timedatectl timesync-status` on the host shows why; hardening.time_servers names others",
    )


def test_our_services_are_sandboxed(host: Any) -> None:
    listed = host.check_output("cd /etc/systemd/system && ls clawd-*.service 2>/dev/null || true").split()
    command = f"systemd-analyze security --no-pager --threshold={MOST_EXPOSURE} %s"
    exposed = [unit for unit in listed if "@" not in unit and host.run(command, unit).rc != 0]
    expect(not exposed, f"exposed more than {MOST_EXPOSURE / 10}: {', '.join(exposed)}")


def matches_anything(pattern: str) -> bool:
    """Return whether a pattern of packages that are left out matches names that have nothing in common."""
    try:
        return all(re.match(pattern, name) for name in ("openssl", "linux-image-amd64", "bash"))
    except re.error:
        return False


def clock_of(host: Any) -> TimeKeeping:
    """Return what keeps the host's time, and its release."""
    fact = ClockFact()
    return fact.process(host.check_output(fact.command()).splitlines())
