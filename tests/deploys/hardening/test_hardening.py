"""What hardening writes, and when root is shut out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploys.hardening.deploy import Clock, ClockFact, _packages, apply
from deploys.hardening.settings import SYSCTL, HardeningSettings, settings_for
from deploys.hardening.sysctl import Settings, SettingsFact, in_force
from deploys.ops.facts import PackagesFact, PathFact, PathState, UnitFact, UnitState
from deploys.ops.files import rendered
from deploys.ops.packages import WantedFact
from deploys.releases import RELEASES, release_of
from inventory.rules.hardening import RULES
from tests.deploys.golden import assert_golden
from tests.deploys.harness import Machine, Run
from tests.deploys.inventories import inventory

GOLDEN = Path(__file__).parent / "golden"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
OPERATORS = {"operators": [{"name": "anna", "keys": [KEY]}]}


def settings(user: str = "deploy", **changes: Any) -> HardeningSettings:
    declared = inventory(base=OPERATORS, **changes)
    host = declared.hosts["bot1"].model_copy(update={"user": user})
    found = settings_for(declared.model_copy(update={"hosts": {"bot1": host}}), "bot1")
    assert found is not None
    return found


def bare_host(
    declared: HardeningSettings, *, login: str | None = "deploy", clock: Clock | None = None
) -> Run:
    facts = {
        ClockFact: clock or Clock(False, "", "debian", "12"),
        PackagesFact: frozenset(),
        WantedFact: frozenset(),
        PathFact: PathState(),
        UnitFact: UnitState(),
        SettingsFact: Settings({}, frozenset(), frozenset()),
    }
    return Machine({"hardening": declared, "ssh_user": login}, facts=facts).run(apply, execute=False)


def written(run: Run, path: str) -> str:
    (diff,) = [change.diff for change in run.changes if change.path == path]
    return "\n".join(line.removeprefix("+") for line in diff if not line.startswith("@@")) + "\n"


@pytest.mark.parametrize(
    "path",
    [
        "/etc/fail2ban/jail.d/zz-clawd.local",
        "/etc/apt/apt.conf.d/52clawd-security-updates",
        "/etc/sysctl.d/60-clawd.conf",
        "/etc/ssh/sshd_config.d/05-clawd-hardening.conf",
        "/etc/sudoers.d/clawd-hardening",
        "/etc/systemd/timesyncd.conf.d/10-clawd.conf",
    ],
)
def test_files(path: str) -> None:
    declared = settings(
        hardening={
            "time_servers": ["ntp1.example.com", "192.0.2.123"],
            "updates": {"reboot": "04:30"},
            "fail2ban": {"never": ["198.51.100.0/24"]},
            "sysctl": {"vm.swappiness": "10"},
        }
    )
    assert_golden(GOLDEN / Path(path).name, written(bare_host(declared), path))


@pytest.mark.parametrize(
    ("user", "changes", "root"),
    [
        ("deploy", {}, False),
        ("root", {}, True),
        ("deploy", {"hardening": {"root_login": True}}, True),
    ],
)
def test_root_may_log_in_only_where_it_has_to(user: str, changes: dict[str, Any], root: bool) -> None:
    assert settings(user, **changes).root_login is root


def test_root_stays_while_nobody_else_is_certain_to_get_in() -> None:
    nobody = settings_for(inventory(), "bot1")
    assert nobody is not None
    assert nobody.root_login
    for login in ("root", None):
        run = bare_host(settings(), login=login)
        assert "PermitRootLogin prohibit-password" in written(
            run, "/etc/ssh/sshd_config.d/05-clawd-hardening.conf"
        )


def test_people_and_machines_of_the_inventory_are_never_banned() -> None:
    declared = settings(firewall={"management": ["203.0.113.0/24"]})
    assert declared.fail2ban is not None
    assert declared.fail2ban.never == ("127.0.0.0/8", "::1", "10.0.0.1", "203.0.113.0/24")


@pytest.mark.parametrize(
    ("clock", "wanted"),
    [(Clock(), True), (Clock(container=True), False), (Clock(other="chrony"), False)],
)
def test_time_is_left_to_who_keeps_it(clock: Clock, wanted: bool) -> None:
    assert ("systemd-timesyncd" in _packages(settings(), clock)) is wanted


def test_what_is_not_wanted_is_not_there() -> None:
    assert settings_for(inventory(hardening={"enabled": False}), "bot1") is None
    declared = settings(hardening={"fail2ban": {"enabled": False}, "updates": {"enabled": False}})
    assert list(_packages(declared, Clock(container=True))) == ["sudo"]


WANTED = {"net.a": "1", "kernel.b": "2", "fs.c": "0"}


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        (Settings(WANTED, frozenset(WANTED), frozenset()), set()),
        (Settings({**WANTED, "net.a": "0"}, frozenset(WANTED), frozenset()), {"sysctl net.a"}),
        (Settings({**WANTED, "kernel.b": "0"}, frozenset({"net.a"}), frozenset()), {"sysctl kernel.b"}),
        (Settings({**WANTED, "kernel.b": "0"}, frozenset({"net.a"}), frozenset({"kernel.b"})), set()),
        (Settings({"net.a": "1"}, frozenset({"net.a"}), frozenset({"kernel.b", "fs.c"})), set()),
    ],
)
def test_what_a_host_refuses_is_noted_once(state: Settings, changes: set[str]) -> None:
    run = Machine(facts={SettingsFact: state}).run(lambda: in_force(WANTED), execute=False)
    assert {change.path for change in run.changes} == changes
    assert run.predicted is bool(changes)


def test_a_setting_that_can_be_set_again_is_no_longer_noted() -> None:
    state = Settings(WANTED, frozenset(WANTED), frozenset({"kernel.b"}))
    assert Machine(facts={SettingsFact: state}).run(lambda: in_force(WANTED), execute=False).predicted


def test_the_usual_set_is_of_settings_that_the_kernel_has() -> None:
    missing = [key for key in SYSCTL if not Path("/proc/sys", *key.split(".")).exists()]
    assert not [key for key in missing if not key.startswith("net.ipv6")]


def test_one_kernel_setting_is_not_given_twice() -> None:
    declared = inventory(hardening={"sysctl": {"net.ipv4.conf.eth0/1.forwarding": 1, "vm.swappiness": 10}})
    assert [finding for rule in RULES for finding in rule(declared)] == []


def test_every_release_has_its_security_updates() -> None:
    for release in RELEASES:
        assert release_of(release.id, release.version) is release
        values = {"origins": release.security, "reboot": "never"}
        text = rendered("hardening/apt.conf", values)
        assert all("security" in origin and f'"{origin}";' in text for origin in release.security)
    assert release_of("debian", "11") is None
