"""How hosts are reached: host keys, login, jump host.

Host keys are always checked, those of jump hosts too. The keys of an inventory (`host_key`, `known_hosts`)
and the user's own `~/.ssh/known_hosts` are written into files of this run; a host whose key is in none of
them is refused. Hosts come here as `Inventory.reached` gives them. The run and the checks of `verify` connect
by a host's name in the inventory, under one ssh_config, so that two hosts may have the same private address
behind different jump hosts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from paramiko import BadHostKeyException
from paramiko.hostkeys import HostKeys

from inventory.errors import ConnectError
from inventory.model import Bastion, Host, Inventory

CONNECT_TIMEOUT = 15
KEEPALIVE = 15


def write_files(inventory: Inventory, hosts: Mapping[str, Host], folder: Path) -> None:
    """Writes into `folder` what a run needs to reach `hosts`: `ssh_config`, and `NAME.known_hosts` a host.

    A host has a file of its own because another may have the same address behind another jump host.
    """
    user_file = Path("~/.ssh/known_hosts").expanduser()
    for name, host in hosts.items():
        known_hosts_file(folder, name).write_text(known_hosts(inventory, host, user_file), encoding="utf-8")
    config_file(folder).write_text(ssh_config(hosts, folder), encoding="utf-8")


def config_file(folder: Path) -> Path:
    """The ssh_config of a run whose files are in `folder`."""
    return folder / "ssh_config"


def known_hosts_file(folder: Path, name: str) -> Path:
    """The known_hosts file of one host of a run whose files are in `folder`."""
    return folder / f"{name}.known_hosts"


def known_hosts_name(address: str, port: int) -> str:
    """What `known_hosts` calls a host on `port` (the form `[address]:port` unless it is 22)."""
    return address if port == 22 else f"[{address}]:{port}"


def known_hosts(inventory: Inventory, host: Host, user_file: Path) -> str:
    """The text of the run's own known_hosts file for one host and its jump host.

    A key that the inventory gives for a host replaces what the files say about that host's
    address, so that a key on record wins over one that was once accepted.
    """
    keys = {known_hosts_name(host.address, host.port): host.host_key}
    if host.bastion:
        keys[known_hosts_name(_address(host.bastion), host.bastion.port)] = host.bastion.host_key
    declared = {name: " ".join(key.split()[:2]) for name, key in keys.items() if key}
    lines = [f"{name} {key}" for name, key in declared.items()]
    for file in (inventory.known_hosts, user_file):
        if file is None or not file.is_file():
            continue
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip() and not line.startswith("#") and not _tells_of(line, declared):
                lines.append(line)
    return "\n".join(lines) + "\n"


def _tells_of(line: str, hosts: Mapping[str, str]) -> bool:
    """Whether a line of a known_hosts file is about one of `hosts`, in plain or hashed form."""
    names = line.split(maxsplit=1)[0].split(",")
    return any(_is_name(host, name) for host in hosts for name in names)


def _is_name(host: str, name: str) -> bool:
    if name.startswith("|1|"):
        # A salt that is not one: such a line is about nobody.
        with suppress(ValueError, AssertionError, IndexError):
            return HostKeys.hash_host(host, name) == name
        return False
    return host == name


def ssh_config(hosts: Mapping[str, Host], folder: Path) -> str:
    """The run's own ssh_config, read by pyinfra and by the `ssh` program alike.

    The user's `~/.ssh/config` is not read, so that a run does the same on every laptop. A jump host stands
    under an alias of its own a host; the dot in it keeps it apart from names of the inventory.
    """
    return "\n".join(
        "\n".join(block) + "\n" for name, host in hosts.items() for block in _blocks(name, host, folder)
    )


def _blocks(name: str, host: Host, folder: Path) -> Iterator[list[str]]:
    rules = [
        "    StrictHostKeyChecking yes",
        f'    UserKnownHostsFile "{known_hosts_file(folder, name)}"',
        "    GlobalKnownHostsFile /dev/null",
        "    BatchMode yes",
        f"    ConnectTimeout {CONNECT_TIMEOUT}",
        f"    ServerAliveInterval {KEEPALIVE}",
        "    LogLevel ERROR",
    ]
    alias = f"jump.{name}"
    jump = [f"    ProxyJump {alias}"] if host.bastion else []
    login = _login(host.address, host.port, host.user)
    yield [f"Host {name}", *login, *rules, *_identity(host.ssh_key), *jump]
    if host.bastion:
        login = _login(_address(host.bastion), host.bastion.port, host.bastion.user or host.user)
        yield [f"Host {alias}", *login, *rules, *_identity(host.bastion.ssh_key or host.ssh_key)]


def _login(address: str, port: int, user: str) -> list[str]:
    # pyinfra takes the port of a jump host as text, and looks "22" up in known_hosts as a port of its own.
    other = [f"    Port {port}"] if port != 22 else []
    return [f"    HostName {address}", *other, f"    User {user}"]


def _identity(key: Path | None) -> list[str]:
    return [f'    IdentityFile "{key}"', "    IdentitiesOnly yes"] if key else []


def _address(jump: Bastion) -> str:
    """The address of a jump host as `Inventory.reached` gives it."""
    if jump.address is None:
        raise ValueError(f"the jump host {jump.host} is not written out")
    return jump.address


def pyinfra_data(name: str, host: Host, folder: Path) -> dict[str, Any]:
    """What pyinfra's SSH connector is told about a host; `folder` holds this run's files.

    pyinfra looks the name up in the ssh_config and checks the host key of the address that it finds there.
    """
    data: dict[str, Any] = {
        "ssh_hostname": name,
        "ssh_port": host.port,
        "ssh_user": host.user,
        "ssh_known_hosts_file": str(known_hosts_file(folder, name)),
        "ssh_config_file": str(config_file(folder)),
        "ssh_strict_host_key_checking": "yes",
        "_sudo": host.user != "root",
    }
    if host.ssh_key:
        data["ssh_key"] = str(host.ssh_key)
    return data


def connect_error(name: str, host: Host, cause: BaseException | str) -> ConnectError:
    """Turns what the SSH library raised or the `ssh` program said into a message for the operator."""
    text = str(_wrong_key(cause) or cause).strip()
    where = f"{name} ({host.user}@{host.address}:{host.port})"
    entry, address, port = f"hosts.{name}", host.address, host.port
    if host.bastion and _speaks_of_jump_host(text, host):
        address, port = _address(host.bastion), host.bastion.port
        where = f"{name}: its jump host {host.bastion.user or host.user}@{address}:{port}"
        entry += ".bastion"
    if re.search(r"No (\S+ )?host key", text) or "not found in known_hosts" in text:
        on = ", run on the jump host," if host.bastion and not entry.endswith(".bastion") else ""
        return ConnectError(
            f"{where}: its host key is not known, so it may be another machine",
            advice=(
                f"compare `ssh-keyscan -p {port} {address}`{on} with the server's console, then put "
                f"the key as `host_key:` under `{entry}`"
            ),
        )
    if "host key" in text.lower() and ("match" in text or "changed" in text.lower()):
        return ConnectError(
            f"{where}: it shows another host key than the known one; someone may be listening in",
            advice=(
                "if the server was reinstalled, replace its key "
                f"(`host_key:` or `ssh-keygen -R '{known_hosts_name(address, port)}'`)"
            ),
        )
    if "uthentication" in text or "private key" in text or "Permission denied" in text:
        return ConnectError(
            f"{where}: login refused ({text})",
            advice="check `user:` and `ssh_key:`, and that the key is in the server's authorized_keys",
        )
    if "resolve" in text.lower():
        return ConnectError(f"{where}: its name cannot be resolved", advice=f"check `{entry}.address`")
    return ConnectError(
        f"{where}: cannot be reached ({text})",
        advice="check that it is on, its address and port, and any firewall between",
    )


def _wrong_key(cause: BaseException | str) -> BadHostKeyException | None:
    """The wrong host key behind an error: pyinfra trips over its own report of one that a jump host shows."""
    error = cause if isinstance(cause, BaseException) else None
    while error is not None and not isinstance(error, BadHostKeyException):
        error = error.__context__
    return error


def _speaks_of_jump_host(text: str, host: Host) -> bool:
    """Whether a message names the jump host, and not the host behind it."""

    def named(address: str, port: int) -> bool:
        plain = rf"(?<![\w.:-]){re.escape(address)}(?![\w.-]|:\d)"
        return f"[{address}]:{port}" in text or re.search(plain, text) is not None

    jump = host.bastion
    return jump is not None and named(_address(jump), jump.port) and not named(host.address, host.port)
