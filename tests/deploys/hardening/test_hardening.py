"""What hardening writes, and when root is shut out."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deploys.hardening import sysctl
from deploys.hardening.deploy import (
    SSHD,
    ClockFact,
    HostKey,
    HostKeysFact,
    TimeKeeping,
    _packages,
    apply,
    refused_host_keys,
)
from deploys.hardening.settings import SYSCTL, HardeningSettings, settings_for
from deploys.hardening.sysctl import Settings, SettingsFact, in_force
from deploys.ops.debian.packages import WantedFact
from deploys.ops.facts import PackagesFact, PathFact, PathState, UnitFact, UnitState
from deploys.ops.paths.files import TEMPLATES, rendered
from deploys.ops.shell import assignments
from deploys.os_releases import RELEASES, release_of
from inventory.errors import HostError
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
    declared: HardeningSettings,
    *,
    login: str | None = "deploy",
    clock: TimeKeeping | None = None,
    client: Any = None,
) -> Run:
    facts = {
        ClockFact: clock or TimeKeeping(False, "", "debian", "12"),
        PackagesFact: frozenset(),
        WantedFact: frozenset(),
        PathFact: PathState(),
        UnitFact: UnitState(),
        SettingsFact: Settings({}, frozenset(), frozenset()),
        HostKeysFact: (RSA, ECDSA, ED25519),
    }
    return Machine({"hardening": declared, "ssh_user": login}, facts=facts, ssh=client).run(
        apply, execute=False
    )


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
        "/etc/systemd/timesyncd.conf.d/10-clawd.conf",
        "/etc/modprobe.d/clawd-unused.conf",
        "/etc/profile.d/clawd-idle.sh",
        "/etc/systemd/system/clawd-package-files.service",
    ],
)
def test_written_files_equal_golden_files(path: str) -> None:
    declared = settings(
        hardening={
            "time_servers": ["ntp1.example.com", "192.0.2.123"],
            "updates": {"reboot": "04:30"},
            "fail2ban": {"never": ["198.51.100.0/24"]},
            "sysctl": {"vm.swappiness": "10"},
        }
    )
    assert_golden(GOLDEN / Path(path).name, written(bare_host(declared), path))


def test_banner_is_written_for_ssh_and_escaped_for_the_console() -> None:
    run = bare_host(settings(hardening={"banner": "Keep \\out\n"}))
    assert written(run, "/etc/issue.net") == written(run, "/etc/clawd/banner") == "Keep \\out\n"
    assert written(run, "/etc/issue") == "Keep \\\\out\n\n\\n \\l\n\n"
    none = bare_host(settings(hardening={"banner": ""}))
    assert not {"/etc/issue", "/etc/issue.net", "/etc/clawd/banner"} & {
        change.path for change in none.changes
    }


@pytest.mark.parametrize(
    ("options", "environment", "ends_after"),
    [
        ("-ic", {}, "1800"),
        ("-ic", {"TMOUT": "60"}, "60"),
        ("-ic", {"TMUX": "/tmp/tmux-0/default,1,0"}, "never"),
        ("-ic", {"STY": "1.screen"}, "never"),
        ("-c", {}, "never"),
    ],
)
def test_idle_timeout_applies_only_to_interactive_shells(
    options: str, environment: dict[str, str], ends_after: str
) -> None:
    words = ["bash", "--norc", options, f". {GOLDEN}/clawd-idle.sh; echo ${{TMOUT-never}}"]
    done = subprocess.run(words, capture_output=True, text=True, env={"PATH": "/bin", **environment})
    assert done.stdout == f"{ends_after}\n"


def test_idle_timeout_of_0_writes_no_profile() -> None:
    run = bare_host(settings(hardening={"idle_minutes": 0}))
    assert "/etc/profile.d/clawd-idle.sh" not in {change.path for change in run.changes}


@pytest.mark.parametrize(
    ("path", "template"),
    [
        ("/etc/sudoers.d/clawd-hardening", "sudoers"),
        ("/etc/security/limits.d/60-clawd-cores.conf", "limits.conf"),
        ("/etc/systemd/coredump.conf.d/60-clawd.conf", "coredump.conf"),
        ("/etc/profile.d/clawd-cores.sh", "profile.sh"),
        ("/etc/default/debsums", "debsums"),
        ("/etc/systemd/system/clawd-package-files.timer", "clawd-package-files.timer"),
    ],
)
def test_templates_without_values_are_written_unchanged(path: str, template: str) -> None:
    assert written(bare_host(settings()), path) == (TEMPLATES / "hardening" / template).read_text()


@pytest.mark.parametrize(
    ("user", "changes", "root"),
    [
        ("deploy", {}, False),
        ("root", {}, True),
        ("deploy", {"hardening": {"root_login": True}}, True),
    ],
)
def test_root_login_is_permitted_only_when_needed(user: str, changes: dict[str, Any], root: bool) -> None:
    assert settings(user, **changes).root_login is root


ED25519, ECDSA = HostKey("ed25519", 256), HostKey("ecdsa", 256)
RSA, SHORT_RSA = HostKey("rsa", 3072), HostKey("rsa", 2048)
ECDSA_CERTIFICATE = HostKey("ecdsa-cert", 256)


@pytest.mark.parametrize(
    ("keys", "kept", "refused"),
    [
        ((RSA, ECDSA, ED25519), (), ("ecdsa-sha2-*",)),
        ((ED25519,), (), ("ecdsa-sha2-*",)),
        ((RSA, ECDSA), (), ("ecdsa-sha2-*",)),
        ((SHORT_RSA, ECDSA, ED25519), (), ("ecdsa-sha2-*", "rsa-sha2-*")),
        ((SHORT_RSA, RSA), (), ("ecdsa-sha2-*", "rsa-sha2-*")),
        ((SHORT_RSA, ECDSA, ED25519), ("ecdsa",), ("rsa-sha2-*",)),
        ((SHORT_RSA, ECDSA, ED25519), ("rsa", "ecdsa"), ()),
        ((SHORT_RSA, ECDSA), (), ()),
        ((ECDSA, ED25519, ECDSA_CERTIFICATE), (), ()),
        ((SHORT_RSA, ECDSA, ED25519, ECDSA_CERTIFICATE), (), ("rsa-sha2-*",)),
        ((ECDSA, ECDSA_CERTIFICATE), (), ()),
        ((), (), ()),
    ],
)
def test_weak_host_keys_are_disabled_when_the_host_has_a_strong_one(
    keys: tuple[HostKey, ...], kept: tuple[str, ...], refused: tuple[str, ...]
) -> None:
    assert refused_host_keys(keys, kept) == refused


def test_host_keys_are_read_from_the_configuration_of_sshd(tmp_path: Path) -> None:
    for kind, bits in (("rsa", "2048"), ("ecdsa", "384"), ("ed25519", "256")):
        command = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", str(tmp_path / kind)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    subprocess.run(
        ["ssh-keygen", "-q", "-s", tmp_path / "rsa", "-h", "-I", "host", tmp_path / "ecdsa.pub"], check=True
    )
    (tmp_path / "ecdsa.pub").unlink()
    configuration = [f"hostkey {tmp_path}/{kind}" for kind in ("rsa", "ecdsa", "ed25519")]
    assert _host_keys(tmp_path, configuration) == (SHORT_RSA, HostKey("ecdsa", 384), ED25519)
    signed = [*configuration, f"hostcertificate {tmp_path}/ecdsa-cert.pub"]
    assert _host_keys(tmp_path, signed)[3:] == (HostKey("ecdsa-cert", 384),)
    # What sshd cannot load is not counted, even if its public part is there; an agent may hold the key.
    (tmp_path / "ed25519").write_text("damaged")
    (tmp_path / "rsa").chmod(0o666)
    assert _host_keys(tmp_path, configuration) == (HostKey("ecdsa", 384),)
    (tmp_path / "ed25519").unlink()
    held = [f"hostkey {tmp_path}/ed25519.pub", f"hostkeyagent {tmp_path}/agent"]
    assert _host_keys(tmp_path, held) == (ED25519,)


def _host_keys(folder: Path, configuration: list[str]) -> tuple[HostKey, ...]:
    """Return what the fact finds with a stand-in for sshd that prints this configuration."""
    (folder / "configuration").write_text("".join(f"{line}\n" for line in configuration))
    sshd = folder / "sshd"
    sshd.write_text(f"#!/bin/sh\ncat {folder}/configuration\n")
    sshd.chmod(0o700)
    text = HostKeysFact().command().replace("/usr/sbin/sshd", str(sshd))
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    return HostKeysFact().process(done.stdout.splitlines())


class Transport:
    """Stand in for a connection, with the type of the host key by which the host was known."""

    def __init__(self, host_key_type: str, proves: bool) -> None:
        self.host_key_type, self.proves_host_keys = host_key_type, proves

    def get_transport(self) -> Transport:
        return self


@pytest.mark.parametrize("known_by", ["ssh-ed25519", "ecdsa-sha2-nistp256"])
def test_sshd_configuration_does_not_depend_on_the_known_key_type(known_by: str) -> None:
    run = bare_host(settings(), client=Transport(known_by, proves=True))
    assert "HostKeyAlgorithms -ecdsa-sha2-*\n" in written(run, SSHD)


def test_pyinfra_alone_refuses_to_disable_the_only_known_host_key() -> None:
    weak = Transport("ecdsa-sha2-nistp256", proves=False)
    with pytest.raises(HostError, match="by a key of the type ecdsa-sha2-nistp256, which sshd would"):
        bare_host(settings(), client=weak)
    kept = bare_host(settings(hardening={"weak_host_keys": ["ecdsa"]}), client=weak)
    assert "HostKeyAlgorithms" not in written(kept, SSHD)


def test_root_login_stays_permitted_until_another_login_is_certain() -> None:
    without_operator = settings_for(inventory(), "bot1")
    assert without_operator is not None
    assert without_operator.root_login
    for login in ("root", None):
        run = bare_host(settings(), login=login)
        assert "PermitRootLogin prohibit-password" in written(
            run, "/etc/ssh/sshd_config.d/05-clawd-hardening.conf"
        )


def test_fail2ban_never_bans_hosts_and_management_networks() -> None:
    declared = settings(firewall={"management": ["203.0.113.0/24"]})
    assert declared.fail2ban is not None
    assert declared.fail2ban.never == ("127.0.0.0/8", "::1", "10.0.0.1", "203.0.113.0/24")


@pytest.mark.parametrize(
    ("clock", "wanted"),
    [(TimeKeeping(), True), (TimeKeeping(container=True), False), (TimeKeeping(other="chrony"), False)],
)
def test_timesyncd_is_installed_only_without_another_time_service(clock: TimeKeeping, wanted: bool) -> None:
    assert ("systemd-timesyncd" in _packages(settings(), clock)) is wanted


def test_disabled_features_install_no_packages() -> None:
    assert settings_for(inventory(hardening={"enabled": False}), "bot1") is None
    declared = settings(hardening={"fail2ban": {"enabled": False}, "updates": {"enabled": False}})
    wanted = list(_packages(declared, TimeKeeping(container=True)))
    assert wanted == ["debsums", "libpam-pwquality", "sudo"]


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
def test_refused_kernel_setting_is_noted_once(state: Settings, changes: set[str]) -> None:
    run = Machine(facts={SettingsFact: state}).run(lambda: in_force(WANTED), execute=False)
    assert {change.path for change in run.changes} == changes
    assert run.predicted is bool(changes)


def test_required_kernel_setting_is_tried_again_after_a_refusal() -> None:
    state = Settings({"net.a": "1", "fs.c": "0"}, frozenset({"net.a"}), frozenset({"kernel.b"}))
    machine = Machine(facts={SettingsFact: state})
    run = machine.run(lambda: in_force(WANTED, ["kernel.b"]), execute=False)
    assert {change.path: change.diff for change in run.changes} == {"sysctl kernel.b": ("unset → 2",)}


def test_undeclared_kernel_setting_is_restored() -> None:
    before = {"net.a": "0", "vm.x": "60", "vm.y": "5"}
    state = Settings({**WANTED, "vm.x": "10", "vm.y": "5"}, frozenset(WANTED), frozenset(), True, before)
    run = Machine(facts={SettingsFact: state}).run(lambda: in_force(WANTED), execute=False)
    assert {change.path: change.diff for change in run.changes} == {
        "sysctl vm.x": ("10 → 60, as before it was declared",),
        "sysctl vm.y": ("no longer declared",),
    }


SETTING = "net.ipv4.conf.lo.log_martians"


@pytest.mark.skipif(
    not os.access("/proc/sys/net/ipv4/conf/lo/log_martians", os.W_OK), reason="read-only here"
)
def test_script_sets_refuses_and_restores_kernel_settings(tmp_path: Path) -> None:
    """The script itself, on this machine's own kernel and with a state folder of its own."""
    file = Path("/proc/sys", *SETTING.split("."))
    old = file.read_text().strip()
    new = "0" if old == "1" else "1"

    def run(pending: dict[str, str], required: str = "", retired: dict[str, str] | None = None) -> Any:
        values = {
            "pending": "\n".join(f"{key}={value}" for key, value in pending.items()),
            "retired": "\n".join(f"{key}={value}" for key, value in (retired or {}).items()),
            "required": required,
            "resisting": "",
            "refused": str(tmp_path / "refused"),
            "before": str(tmp_path / "before"),
        }
        return subprocess.run(
            ["sh", "-c", assignments(**values) + sysctl._SET], capture_output=True, text=True, check=False
        )

    try:
        assert run({SETTING: new}, SETTING).returncode == 0
        assert file.read_text().strip() == new
        assert (tmp_path / "before").read_text() == f"{SETTING}={old}\n"
        unknown = run({"net.ipv4.no_such_setting": "1"}, "net.ipv4.no_such_setting")
        assert unknown.returncode == 1
        assert "kernel setting net.ipv4.no_such_setting: this host does not know it" in unknown.stderr
        optional = run({"net.ipv4.no_such_setting": "1"})
        assert optional.returncode == 0
        assert (tmp_path / "refused").read_text() == "net.ipv4.no_such_setting\n"
        refused = run({SETTING: "many"}, SETTING)
        assert refused.returncode == 1
        assert f"kernel setting {SETTING}: this host does not let it be set to many" in refused.stderr
        changed = run({SETTING: f"0{new}"}, SETTING)
        assert changed.returncode == 1
        assert f"the kernel made {new} of 0{new}: declare {new}" in changed.stderr
        assert run({}, retired={SETTING: old}).returncode == 0
        assert file.read_text().strip() == old
        assert (tmp_path / "before").read_text() == ""
    finally:
        file.write_text(old)


def test_settings_fact_reads_values_of_the_kernel(tmp_path: Path) -> None:
    fact = SettingsFact()
    (tmp_path / "before").write_text("net.ipv4.ip_forward=0\n")
    text = fact.command(("kernel.ostype", "net.ipv4.no_such", "net.ipv4.tcp_rmem")).replace(
        sysctl.BEFORE, str(tmp_path / "before")
    )
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=True)
    state = fact.process(done.stdout.splitlines())
    assert state.values["kernel.ostype"] == "Linux"
    assert len(state.values["net.ipv4.tcp_rmem"].split(" ")) == 3
    assert "net.ipv4.no_such" not in state.values
    assert "net.ipv4.ip_forward" in state.values
    assert state.before == {"net.ipv4.ip_forward": "0"}
    assert state.kept


def test_accepted_kernel_setting_is_removed_from_the_refused_ones() -> None:
    state = Settings(WANTED, frozenset(WANTED), frozenset({"kernel.b"}))
    assert Machine(facts={SettingsFact: state}).run(lambda: in_force(WANTED), execute=False).predicted


def test_default_kernel_settings_exist_in_this_kernel() -> None:
    missing = [key for key in SYSCTL if not Path("/proc/sys", *key.split(".")).exists()]
    assert not [key for key in missing if not key.startswith("net.ipv6")]


def test_kernel_setting_of_an_interface_with_a_dot_is_accepted() -> None:
    declared = inventory(hardening={"sysctl": {"net.ipv4.conf.eth0/1.forwarding": 1, "vm.swappiness": 10}})
    assert [finding for rule in RULES for finding in rule(declared)] == []


def test_every_release_has_security_origins() -> None:
    for release in RELEASES:
        assert release_of(release.id, release.version) is release
        values = {"origins": release.security, "reboot": "never"}
        text = rendered("hardening/apt.conf", values)
        assert all("security" in origin and f'"{origin}";' in text for origin in release.security)
    assert release_of("debian", "11") is None
