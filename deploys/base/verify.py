"""Checks of the foundation, read-only."""

from __future__ import annotations

from typing import Any

import pytest

from deploys.base.deploy import JOURNALD, SSHD_FILES, SUDOERS, authorized_keys
from deploys.base.settings import BaseSettings
from deploys.ops.checks import runs_as_started

FOLDERS = {
    "/etc/clawd": 0o755,
    "/etc/clawd/secrets": 0o700,
    "/opt/clawd": 0o755,
    "/usr/local/lib/clawd": 0o755,
    "/var/lib/clawd": 0o755,
    "/var/lib/clawd/state": 0o700,
}


def test_packages_installed(host: Any, settings: BaseSettings) -> None:
    missing = [name for name in settings.packages if not host.package(name).is_installed]
    assert not missing, f"not installed: {', '.join(missing)}"


@pytest.mark.parametrize("path", FOLDERS)
def test_folder(host: Any, path: str) -> None:
    folder = host.file(path)
    assert (folder.is_directory, folder.user, folder.group, folder.mode) == (
        True,
        "root",
        "root",
        FOLDERS[path],
    )


def test_sshd_as_declared(host: Any, settings: BaseSettings) -> None:
    effective = set(host.check_output("/usr/sbin/sshd -T").splitlines())
    wanted = {
        *((f"port {settings.ssh_port}",) if settings.ssh_port else ()),
        "pubkeyauthentication yes",
        "passwordauthentication no",
        "kbdinteractiveauthentication no",
        "x11forwarding no",
        "clientaliveinterval 15",
    }
    assert wanted <= effective, f"sshd lacks: {', '.join(sorted(wanted - effective))}"
    by_key_at_most = {"permitrootlogin without-password", "permitrootlogin no"}
    assert by_key_at_most & effective, "root may log in with a password"


def test_sshd_runs_with_its_configuration(host: Any) -> None:
    assert runs_as_started(host, "ssh.service", watch=SSHD_FILES), "ssh.service, or a file it reads since"


def test_journal_limited(host: Any, settings: BaseSettings) -> None:
    assert runs_as_started(host, "systemd-journald.service", watch=(JOURNALD,)), JOURNALD
    assert f"SystemMaxUse={settings.journal_max}" in host.file(JOURNALD).content_string.splitlines()


def test_time_zone(host: Any, settings: BaseSettings) -> None:
    assert host.file("/etc/localtime").linked_to == host.check_output(
        "readlink -f %s", f"/usr/share/zoneinfo/{settings.time_zone}"
    )


def test_operators_may_log_in_with_their_keys(host: Any, settings: BaseSettings) -> None:
    for operator in settings.operators:
        keys = host.file(f"{host.user(operator.name).home}/.ssh/authorized_keys")
        assert keys.content_string == authorized_keys(operator), f"{keys.path} differs from what is declared"
        assert (keys.user, keys.mode) == (operator.name, 0o600), f"{keys.path}: owner or mode"


def test_operators_may_use_sudo(host: Any, settings: BaseSettings) -> None:
    lines = host.file(SUDOERS).content_string.splitlines()
    granted = {line.split()[0] for line in lines if line and not line.startswith("#")}
    assert granted == {operator.name for operator in settings.operators}
