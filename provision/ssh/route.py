"""The way to a host: the host itself and its jump hosts, from the inventory and `~/.ssh/config`.

What the inventory says wins over the user's `~/.ssh/config`, which wins over defaults.
"""

from __future__ import annotations

import dataclasses
import getpass
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from inventory.addresses import check_host
from inventory.errors import ConnectError
from inventory.load import LoadedInventory
from inventory.model import Inventory
from inventory.sections.hosts import Bastion, Host
from provision.ssh.config import Destination, SshConfig, jump_of
from provision.ssh.known_hosts import SSH_PORT, KnownHosts, names_of, read_files
from provision.ssh.login import Keys

_MOST_HOPS = 8


@dataclass(frozen=True, slots=True)
class Hop:
    """One SSH server on the way to a host, or the host itself.

    `entry` is where the inventory declares it (`hosts.bot1`), empty where it comes from `~/.ssh/config`.
    `alias` is the name that was looked up in that file.
    """

    address: str
    port: int
    user: str
    entry: str = ""
    keys: Keys = field(default_factory=Keys)
    host_key: str | None = None
    host_key_alias: str = ""
    known_hosts: tuple[Path, ...] = ()
    proxy_command: str = ""
    family: str = "any"
    alias: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the server in known_hosts files."""
        return (self.host_key_alias,) if self.host_key_alias else names_of(self.address, self.port)

    def known(self) -> KnownHosts:
        """Return the host keys that are known, read now."""
        known = read_files(self.known_hosts)
        if self.host_key is None:
            return known
        return known.with_declared(self.address, self.port, self.host_key, f"`{self.entry}.host_key`")


@dataclass(frozen=True, slots=True)
class Route:
    """The hops to a host: its jump hosts in order, and the host itself."""

    name: str
    hops: tuple[Hop, ...]

    @property
    def host(self) -> Hop:
        """Return the hop of the host itself."""
        return self.hops[-1]

    def where(self, position: int) -> str:
        """Return how messages name a hop."""
        hop = self.hops[position]
        login = f"{hop.user}@{hop.address}:{hop.port}"
        if position == len(self.hops) - 1:
            return f"{self.name} ({login})"
        return f"{self.name}: its jump host {login}"


def route_to(inventory: Inventory, name: str, config: SshConfig) -> Route:
    """Return the way to a host of the inventory.

    Raises `ConnectError` where `~/.ssh/config` cannot be read, or its jump hosts lead in a circle.
    """
    host = inventory.hosts[name]
    found = _found(host, config)
    hop = _hop(inventory, found, alias=host.address, user=_user(host, found), port=_port(host, found))
    hop = _as_declared(hop, f"hosts.{name}", host.ssh_key, host.ssh_key_password, host.host_key)
    jump = host.bastion
    if jump is None:
        return Route(name, (*_jumps(inventory, found, config), hop))
    hop = replace(hop, proxy_command="")
    if jump.host is not None:
        return Route(name, (*route_to(inventory, jump.host, config).hops, hop))
    if jump.address is None:
        raise ValueError(f"the jump host of {name} has no address")
    led = config.lookup(jump.address, user=jump.user, port=_declared(jump, "port"), default_user=hop.user)
    first = _hop(
        inventory,
        led,
        alias=jump.address,
        user=jump.user or led.user or hop.user,
        port=_declared(jump, "port") or led.port or SSH_PORT,
    )
    key, password = jump.ssh_key or host.ssh_key, jump.ssh_key_password or host.ssh_key_password
    first = _as_declared(first, f"hosts.{name}.bastion", key, password, jump.host_key)
    return Route(name, (*_jumps(inventory, led, config), first, hop))


def with_addresses(loaded: LoadedInventory, config: SshConfig) -> LoadedInventory:
    """Return the inventory as components need it: what only `~/.ssh/config` says of hosts is written out.

    An alias means nothing to the other hosts, to certificates and to those who talk to the bot. Raises
    `ConnectError` where the file cannot be read, or says nothing of an alias that is no host name.
    """
    hosts = {}
    for name, host in loaded.inventory.hosts.items():
        found = _found(host, config)
        _must_be_host(name, host.address, found.address, config)
        known: dict[str, Any] = {
            "address": found.address,
            "user": _user(host, found),
            "port": _port(host, found),
        }
        if (jump := host.bastion) is not None and jump.address is not None:
            led = config.lookup(jump.address, user=jump.user, port=_declared(jump, "port"))
            if led.address != jump.address:
                known["bastion"] = jump.model_copy(update={"address": led.address})
        changed = {key: value for key, value in known.items() if value != getattr(host, key)}
        hosts[name] = host.model_copy(update=changed) if changed else host
    if hosts == loaded.inventory.hosts:
        return loaded
    written_out = loaded.inventory.model_copy(update={"hosts": hosts})
    return dataclasses.replace(loaded, inventory=written_out, as_written=loaded.declared)


def _must_be_host(host: str, written: str, found: str, config: SshConfig) -> None:
    """Raise `ConnectError` where `found`, which stands for what is `written`, is no name of a host."""
    if check_host(found) is None:
        return
    instead = "" if found == written else f", but to `{found}`"
    raise ConnectError(
        f"{host}: {config.file} does not resolve `{written}` to a host name or an address{instead}",
        advice=f"write `HostName` with an IP address or a host name under `Host {written}` there",
    )


def _found(host: Host, config: SshConfig) -> Destination:
    return config.lookup(
        host.address, user=_declared(host, "user"), port=_declared(host, "port"), default_user=host.user
    )


def _user(host: Host, found: Destination) -> str:
    return str(_declared(host, "user") or found.user or host.user)


def _port(host: Host, found: Destination) -> int:
    return int(_declared(host, "port") or found.port or host.port)


def _declared(model: Host | Bastion, key: str) -> Any:
    return getattr(model, key) if key in model.model_fields_set else None


def _as_declared(
    hop: Hop, entry: str, key: Path | None, password: SecretStr | None, host_key: str | None
) -> Hop:
    """Return a hop with the keys that `entry` of the inventory declares for it."""
    keys = replace(hop.keys, passphrase=password.get_secret_value() if password else None)
    if key:
        keys = replace(keys, named=(key,), only_named=True)
    alias = "" if host_key else hop.host_key_alias
    return replace(hop, entry=entry, keys=keys, host_key=host_key, host_key_alias=alias)


def _hop(inventory: Inventory, found: Destination, *, alias: str, user: str, port: int) -> Hop:
    return Hop(
        address=found.address,
        port=port,
        user=user,
        keys=Keys(found.keys, found.only_keys, found.agent, None, found.certificates),
        host_key_alias=found.host_key_alias,
        known_hosts=(*((inventory.known_hosts,) if inventory.known_hosts else ()), *found.known_hosts),
        proxy_command=found.proxy_command,
        family=found.family,
        alias=alias,
    )


def _jumps(
    inventory: Inventory, found: Destination, config: SshConfig, passed: tuple[str, ...] = ()
) -> tuple[Hop, ...]:
    """Return the hops of `ProxyJump`. The first may have jump hosts of its own; the others are behind it."""
    hops: list[Hop] = []
    for position, text in enumerate(found.jumps):
        if text in passed or len(passed) >= _MOST_HOPS:
            raise ConnectError(
                f"{config.file}: the jump hosts lead in a circle: {' → '.join((*passed, text))}",
                advice="correct `ProxyJump` there",
            )
        user, address, port = jump_of(text)
        led = config.lookup(address, user=user, port=port)
        if position == 0:
            hops += _jumps(inventory, led, config, (*passed, text))
        else:
            led = replace(led, proxy_command="")
        hops.append(
            _hop(
                inventory,
                led,
                alias=address,
                user=user or led.user or getpass.getuser(),
                port=port or led.port or SSH_PORT,
            )
        )
    return tuple(hops)
