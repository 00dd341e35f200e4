"""How hosts are reached: host keys, login, jump host.

Host keys are always checked. The keys of an inventory (`host_key`, `known_hosts`) and the user's own
`~/.ssh/known_hosts` are written into one file of this run; a host whose key is in none of them is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inventory.errors import ConnectError
from inventory.model import Host, Inventory

CONNECT_TIMEOUT = 15


def known_hosts_entry(address: str, port: int, key: str) -> str:
    """A line of `known_hosts` for a host on `port` (the form `[address]:port` unless it is 22)."""
    name = address if port == 22 else f"[{address}]:{port}"
    return f"{name} {' '.join(key.split()[:2])}"


def known_hosts(inventory: Inventory, hosts: Mapping[str, Host], user_file: Path) -> str:
    """The text of the run's own known_hosts file.

    A key that the inventory gives for a host replaces what the user's file says about that host's
    address, so that a key on record wins over one that was once accepted.
    """
    lines: list[str] = []
    for host in hosts.values():
        if host.host_key:
            lines.append(known_hosts_entry(host.address, host.port, host.host_key))
        if host.bastion and host.bastion.host_key:
            lines.append(known_hosts_entry(host.bastion.address, host.bastion.port, host.bastion.host_key))
    declared = {line.split()[0] for line in lines}
    for file in (inventory.known_hosts, user_file):
        if file is None or not file.is_file():
            continue
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            names = line.split(" ", 1)[0].split(",")
            if line.strip() and not line.startswith("#") and declared.isdisjoint(names):
                lines.append(line)
    return "\n".join(lines) + "\n"


def ssh_config(hosts: Mapping[str, Host]) -> str:
    """The run's own ssh_config: jump hosts. The user's `~/.ssh/config` is not read, so that a run
    does the same on every laptop."""
    blocks = []
    for host in hosts.values():
        if host.bastion:
            jump = f"{host.bastion.user or host.user}@{host.bastion.address}:{host.bastion.port}"
            blocks.append(f"Host {host.address}\n    ProxyJump {jump}\n")
    return "\n".join(blocks)


def pyinfra_data(host: Host, folder: Path) -> dict[str, Any]:
    """What pyinfra's SSH connector is told about `host`; `folder` holds this run's two files."""
    data: dict[str, Any] = {
        "ssh_hostname": host.address,
        "ssh_port": host.port,
        "ssh_user": host.user,
        "ssh_known_hosts_file": str(folder / "known_hosts"),
        "ssh_config_file": str(folder / "ssh_config"),
        "ssh_strict_host_key_checking": "yes",
        "_sudo": host.user != "root",
    }
    if host.ssh_key:
        data["ssh_key"] = str(host.ssh_key)
    return data


def openssh_options(host: Host, folder: Path) -> list[str]:
    """Options for the `ssh` program that reach `host` under the same rules."""
    options = [
        "-F", str(folder / "ssh_config"),
        "-o", "StrictHostKeyChecking=yes",
        "-o", f"UserKnownHostsFile={folder / 'known_hosts'}",
        "-o", "GlobalKnownHostsFile=/dev/null",
        "-o", "BatchMode=yes",
        "-o", f"ConnectTimeout={CONNECT_TIMEOUT}",
        "-p", str(host.port),
    ]  # fmt: skip
    if host.ssh_key:
        options += ["-i", str(host.ssh_key), "-o", "IdentitiesOnly=yes"]
    return options


def connect_error(name: str, host: Host, cause: BaseException) -> ConnectError:
    """Turns what the SSH library says into a message for the operator."""
    text = str(cause)
    where = f"{name} ({host.user}@{host.address}:{host.port})"
    if "No host key" in text or "not found in known_hosts" in text:
        return ConnectError(
            f"{where}: its host key is not known, so it may be another machine",
            advice=(
                f"compare `ssh-keyscan -p {host.port} {host.address}` with the server's console, then put "
                f"the key as `host_key:` under `hosts.{name}`"
            ),
        )
    if "host key" in text.lower() and ("match" in text or "changed" in text.lower()):
        return ConnectError(
            f"{where}: it shows another host key than the known one; someone may be listening in",
            advice=(
                "if the server was reinstalled, replace its key "
                f"(`host_key:` or `ssh-keygen -R {host.address}`)"
            ),
        )
    if "uthentication" in text or "private key" in text:
        return ConnectError(
            f"{where}: login refused ({text})",
            advice="check `user:` and `ssh_key:`, and that the key is in the server's authorized_keys",
        )
    if "resolve" in text.lower():
        return ConnectError(f"{where}: its name cannot be resolved", advice=f"check `hosts.{name}.address`")
    return ConnectError(
        f"{where}: cannot be reached ({text})",
        advice="check that it is on, its address and port, and any firewall between",
    )
