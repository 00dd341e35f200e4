"""Checks of hardening, read-only."""

from __future__ import annotations

from typing import Any

from deploys.base.deploy import SSHD_FILES
from deploys.hardening.deploy import BANNER, BANS, JAIL, SUDOERS, TIMER, TIMESYNCD, UPDATES, Clock, ClockFact
from deploys.hardening.settings import HardeningSettings
from deploys.hardening.sysctl import SettingsFact
from deploys.ops.checks import runs_as_started
from deploys.releases import release_of

MOST_EXPOSURE = 30
"""Of `systemd-analyze security`, in tenths: 3.0 of 10."""


def test_guessing_of_logins_is_punished(host: Any, settings: HardeningSettings) -> None:
    if settings.fail2ban is None:
        return
    assert runs_as_started(host, "fail2ban.service", watch=(JAIL,)), f"fail2ban.service, or {JAIL} since"
    told = host.run("fail2ban-client get sshd maxretry")
    assert told.stdout.strip() == str(settings.fail2ban.tries), told.stderr
    assert host.run(BANS).rc == 0, "fail2ban sees failures and bans nobody"
    assert "_SYSTEMD_UNIT=ssh.service" in host.check_output("fail2ban-client status sshd")


def test_security_updates_come_by_themselves(host: Any, settings: HardeningSettings) -> None:
    if not settings.updates:
        assert not host.file(UPDATES).exists
        return
    clock = clock_of(host)
    release = release_of(clock.id, clock.version)
    dumped = host.check_output("apt-config dump Unattended-Upgrade; apt-config dump APT::Periodic")
    origins = [
        line.split('"')[1] for line in dumped.splitlines() if "Pattern::" in line or "Origins::" in line
    ]
    assert release is not None
    assert tuple(origins) == release.security
    assert 'APT::Periodic::Unattended-Upgrade "1"' in dumped
    # Masked by somebody on the host, security updates are left to people.
    assert host.service(TIMER).is_masked or host.service(TIMER).is_enabled


def test_kernel_settings_in_force(host: Any, settings: HardeningSettings) -> None:
    fact = SettingsFact()
    state = fact.process(host.check_output(fact.command(tuple(settings.sysctl))).splitlines())
    excused = state.refused - frozenset(settings.required)
    differing = [
        f"{key} is {state.values.get(key, 'not known to this host')}, and {value} is declared"
        for key, value in sorted(settings.sysctl.items())
        if state.values.get(key) != value and key not in excused
    ]
    assert not differing, f"{'; '.join(differing)}; noted as refused: {', '.join(sorted(excused)) or 'none'}"


def test_ssh_is_closed_to_root_and_greets(host: Any, settings: HardeningSettings) -> None:
    assert runs_as_started(host, "ssh.service", watch=SSHD_FILES), "ssh.service, or a file it reads since"
    effective = set(host.check_output("/usr/sbin/sshd -T").splitlines())
    if not settings.root_login:
        assert "permitrootlogin no" in effective
    assert "passwordauthentication no" in effective
    assert f"banner {BANNER if settings.banner else 'none'}" in effective
    if settings.banner:
        assert host.file(BANNER).content_string == f"{settings.banner.rstrip()}\n"


def test_sudo_rules(host: Any) -> None:
    rules = host.file(SUDOERS)
    assert (rules.user, rules.mode) == ("root", 0o440)
    assert "Defaults use_pty" in rules.content_string.splitlines()
    assert host.run("/usr/sbin/visudo -cq").rc == 0


def test_time_is_kept(host: Any) -> None:
    clock = clock_of(host)
    assert clock.kept_otherwise or runs_as_started(host, "systemd-timesyncd.service", watch=(TIMESYNCD,))


def test_our_services_are_sandboxed(host: Any) -> None:
    listed = host.check_output("cd /etc/systemd/system && ls clawd-*.service 2>/dev/null || true").split()
    command = f"systemd-analyze security --no-pager --threshold={MOST_EXPOSURE} %s"
    exposed = [unit for unit in listed if "@" not in unit and host.run(command, unit).rc != 0]
    assert not exposed, f"exposed more than {MOST_EXPOSURE / 10}: {', '.join(exposed)}"


def clock_of(host: Any) -> Clock:
    """Who keeps the host's time, and its release."""
    fact = ClockFact()
    return fact.process(host.check_output(fact.command()).splitlines())
