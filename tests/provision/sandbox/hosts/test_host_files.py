from __future__ import annotations

import dataclasses
import os
from ipaddress import IPv4Address
from pathlib import Path

from provision.sandbox.hosts.host_files import (
    HostFile,
    HostNetwork,
    host_files,
    make_host_key,
    unit_links,
    write_into,
)
from provision.sandbox.hosts.machine_settings import MachineSettings

PLACE = HostNetwork("bot1", IPv4Address("10.213.78.11"), IPv4Address("10.213.78.1"), 24, 1400)


def files_of(machine: MachineSettings) -> dict[str, HostFile]:
    return {
        file.path: file for file in host_files(PLACE, machine, "ssh-ed25519 LOGIN", ("PRIVATE", "PUBLIC"))
    }


def test_host_files_contain_name_and_network(machine: MachineSettings) -> None:
    files = files_of(machine)
    assert files["/etc/hostname"].content == "bot1\n"
    network = files["/etc/systemd/network/10-host0.network"].content
    assert "Address=10.213.78.11/24\nGateway=10.213.78.1\n" in network
    assert "MTUBytes=1400" in network
    assert "10.213.78.11 bot1" in files["/etc/hosts"].content


def test_host_files_contain_apt_proxy_name_servers_and_certificates(machine: MachineSettings) -> None:
    files = files_of(machine)
    assert files["/etc/resolv.conf"].content == "nameserver 192.0.2.53\n"
    assert 'Acquire::http::Proxy "http://10.213.78.1:3142";' in files["/etc/apt/apt.conf.d/50sandbox"].content
    assert files["/usr/local/share/ca-certificates/ours.crt"].content == "PEM ours"
    assert files["/etc/ssl/certs/ca-certificates.crt"].content == "PEM all"
    assert "/etc/ssl/certs/ca-certificates.crt" not in files_of(
        dataclasses.replace(machine, certificates=None)
    )


def test_nothing_secret_is_readable_by_others(machine: MachineSettings) -> None:
    files = files_of(machine)
    assert files["/etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert files["/etc/sudoers.d/operator"].mode == 0o440
    for home in ("/root", "/home/operator"):
        assert files[f"{home}/.ssh/authorized_keys"].mode == 0o600
    assert "PasswordAuthentication no" in files["/etc/ssh/sshd_config.d/90-sandbox.conf"].content


def test_hosts_have_different_identities(machine: MachineSettings, tmp_path: Path) -> None:
    assert files_of(machine)["/etc/machine-id"].content != files_of(machine)["/etc/machine-id"].content
    first, second = make_host_key("bot1", tmp_path), make_host_key("bot2", tmp_path)
    assert first[0] != second[0]
    assert first[1].startswith("ssh-ed25519 ")
    assert list(tmp_path.iterdir()) == []


def test_unattended_upgrades_are_masked() -> None:
    masked = {link.rpartition("/")[2] for link, target in unit_links().items() if target == "/dev/null"}
    assert {"apt-daily.timer", "apt-daily-upgrade.timer"} <= masked


def test_files_and_links_are_written_as_declared(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "hostname").write_text("builder\n")
    ours = {"uid": os.getuid(), "gid": os.getgid()}
    write_into(
        tmp_path,
        (
            HostFile("/etc/hostname", "bot1\n", **ours),
            HostFile("/root/.ssh/authorized_keys", "key\n", 0o600, **ours),
        ),
        {"/etc/systemd/system/a.timer": "/dev/null"},
    )
    assert (tmp_path / "etc/hostname").read_text() == "bot1\n"
    assert (tmp_path / "etc/hostname").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "root/.ssh").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "root/.ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "etc/systemd/system/a.timer").readlink() == Path("/dev/null")
