"""Files that turn the common root filesystem into one host: name, address, keys and logins."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from provision.sandbox import network
from provision.sandbox.commands import run
from provision.sandbox.hosts.host import DebianRelease
from provision.sandbox.hosts.machine_settings import MachineSettings
from provision.sandbox.hosts.rootfs import OPERATOR_GID, OPERATOR_UID
from provision.sandbox.layout import Layout

_MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service", "getty@tty1.service")


@dataclass(frozen=True, slots=True)
class HostFile:
    """One file of a host; `path` is absolute within it."""

    path: str
    content: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True)
class NewHost:
    """A host to create; `login_key` is the public key that may log in."""

    name: str
    release: DebianRelease
    machine: MachineSettings
    login_key: str


@dataclass(frozen=True, slots=True)
class HostNetwork:
    """The name of a host and its address on the sandbox's network."""

    name: str
    address: IPv4Address
    gateway: IPv4Address
    prefix: int
    mtu: int


def files_of(new: NewHost, layout: Layout, folder: Path) -> tuple[tuple[HostFile, ...], str]:
    """Return the files of a new host and its new public host key, which is made in `folder`."""
    place = HostNetwork(
        new.name,
        layout.address(new.name),
        layout.machine_address,
        layout.subnet.prefixlen,
        network.outgoing_mtu(),
    )
    host_key = make_host_key(new.name, folder)
    return host_files(place, new.machine, new.login_key, host_key), host_key[1].strip()


def make_host_key(name: str, folder: Path) -> tuple[str, str]:
    """Return a new SSH host key: private and public key as text."""
    path = folder / "ssh_host_ed25519_key"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"root@{name}", "-f", str(path)])
    public = path.with_suffix(".pub")
    halves = path.read_text(), public.read_text()
    path.unlink()
    public.unlink()
    return halves


def host_files(
    place: HostNetwork, machine: MachineSettings, login_key: str, host_key: tuple[str, str]
) -> tuple[HostFile, ...]:
    """Return all files that distinguish this host from the common root filesystem."""
    private, public = host_key
    trusted = [
        HostFile(f"/usr/local/share/ca-certificates/{name}", pem)
        for name, pem in machine.own_certificates.items()
    ]
    if machine.certificates is not None:
        trusted.append(HostFile("/etc/ssl/certs/ca-certificates.crt", machine.certificates))
    return (
        HostFile("/etc/hostname", f"{place.name}\n"),
        HostFile("/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{place.address} {place.name}\n"),
        HostFile("/etc/machine-id", f"{secrets.token_hex(16)}\n", 0o444),
        HostFile("/etc/resolv.conf", "".join(f"nameserver {server}\n" for server in machine.name_servers)),
        HostFile("/etc/apt/apt.conf.d/50sandbox", _apt_settings(machine)),
        HostFile("/etc/systemd/network/10-host0.network", _network(place)),
        HostFile("/etc/ssh/ssh_host_ed25519_key", private, 0o600),
        HostFile("/etc/ssh/ssh_host_ed25519_key.pub", public),
        HostFile(
            "/etc/ssh/sshd_config.d/90-sandbox.conf",
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n",
        ),
        HostFile("/etc/sudoers.d/operator", "operator ALL=(ALL) NOPASSWD: ALL\n", 0o440),
        HostFile("/root/.ssh/authorized_keys", f"{login_key}\n", 0o600),
        HostFile("/home/operator/.ssh/authorized_keys", f"{login_key}\n", 0o600, OPERATOR_UID, OPERATOR_GID),
        *trusted,
    )


def unit_links() -> dict[str, str]:
    """Return the links that enable and mask units: link (absolute in the host) to target."""
    system, shipped = "/etc/systemd/system", "/lib/systemd/system"
    networkd, online = "systemd-networkd.service", "systemd-networkd-wait-online.service"
    return {
        f"{system}/multi-user.target.wants/{networkd}": f"{shipped}/{networkd}",
        f"{system}/network-online.target.wants/{online}": f"{shipped}/{online}",
        **{f"{system}/{unit}": "/dev/null" for unit in _MASKED},
    }


def write_into(root: Path, files: tuple[HostFile, ...], links: dict[str, str]) -> None:
    """Write files and links into the root folder of a host that is not running."""
    for file in files:
        path = root / file.path.lstrip("/")
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
            if path.parent.name == ".ssh":
                path.parent.chmod(0o700)
                os.chown(path.parent, file.uid, file.gid)
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(file.content)
        os.chown(path, file.uid, file.gid)
        path.chmod(file.mode)
    for link, target in links.items():
        path = root / link.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def _apt_settings(machine: MachineSettings) -> str:
    lines = ['Acquire::Languages "none";']
    lines += [f'Acquire::{scheme}::Proxy "{proxy}";' for scheme, proxy in machine.apt_proxy.items()]
    return "\n".join(lines) + "\n"


def _network(place: HostNetwork) -> str:
    return (
        "[Match]\nName=host0\n\n"
        f"[Link]\nMTUBytes={place.mtu}\n\n"
        f"[Network]\nAddress={place.address}/{place.prefix}\nGateway={place.gateway}\nIPv6AcceptRA=no\n"
    )
