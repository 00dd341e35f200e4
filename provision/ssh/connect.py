"""How hosts are reached: the way there, host keys, logins, and one set of words for what goes wrong.

What the inventory says wins over the user's `~/.ssh/config`, which wins over defaults. Host keys are always
checked, those of jump hosts too; `StrictHostKeyChecking` of that file does not count. Every command connects
through `dial`, so all of them reach the same hosts and report problems in the same words.
"""

from __future__ import annotations

import dataclasses
import getpass
import socket
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import paramiko
from gevent.lock import BoundedSemaphore
from pydantic import SecretStr

from inventory.addresses import check_host
from inventory.errors import ClawdError, ConnectError
from inventory.load import LoadedInventory
from inventory.model import Bastion, Host, Inventory
from provision.connection.ask import SecretPrompt
from provision.ssh.config import Destination, SshConfig, SshTokens, jump_of
from provision.ssh.host_key_proof import proven
from provision.ssh.known_hosts import (
    SSH_PORT,
    HostKeyVerdict,
    KnownHosts,
    Trust,
    name_of,
    names_of,
    read_files,
)
from provision.ssh.login import Keys, LoginRefusedError, log_in
from provision.ssh.proxy_command import ProxyCommandError, ProxyConnection
from provision.ssh.transport import WatchedTransport, prepared

CONNECT_TIMEOUT = 15
LOGINS_AT_ONCE = 8
"""Concurrent logins at one server; sshd drops more than 10 unauthenticated connections (`MaxStartups`)."""
_MOST_HOPS = 8
_CERTIFICATE = "-cert-v01@openssh.com"
_ALGORITHMS = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "rsa-sha2-512",
    "rsa-sha2-256",
    "ssh-rsa",
)
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


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


class HostKeyError(Exception):
    """A host presents a key that is not trusted."""

    def __init__(self, verdict: HostKeyVerdict, known: KnownHosts) -> None:
        super().__init__(verdict.trust.value)
        self.verdict, self.known = verdict, known


# The way to a host


def route_to(inventory: Inventory, name: str, config: SshConfig) -> Route:
    """Return the way to a host of the inventory.

    Raises `ConnectError` where `~/.ssh/config` cannot be read, or its jump hosts lead in a circle.
    """
    host = inventory.hosts[name]
    found = _found(host, config)
    hop = _hop(
        inventory,
        found,
        alias=host.address,
        entry=f"hosts.{name}",
        user=_user(host, found),
        port=_port(host, found),
        key=host.ssh_key,
        passphrase=_secret(host.ssh_key_password),
        host_key=host.host_key,
    )
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
        entry=f"hosts.{name}.bastion",
        user=jump.user or led.user or hop.user,
        port=_declared(jump, "port") or led.port or SSH_PORT,
        key=jump.ssh_key or host.ssh_key,
        passphrase=_secret(jump.ssh_key_password or host.ssh_key_password),
        host_key=jump.host_key,
    )
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


def _secret(value: SecretStr | None) -> str | None:
    return value.get_secret_value() if value else None


def _hop(
    inventory: Inventory,
    found: Destination,
    *,
    alias: str,
    user: str,
    port: int,
    entry: str = "",
    key: Path | None = None,
    passphrase: str | None = None,
    host_key: str | None = None,
) -> Hop:
    if key:
        keys = Keys((key,), True, found.agent, passphrase, found.certificates)
    else:
        keys = Keys(found.keys, found.only_keys, found.agent, passphrase, found.certificates)
    return Hop(
        address=found.address,
        port=port,
        user=user,
        entry=entry,
        keys=keys,
        host_key=host_key,
        host_key_alias="" if host_key else found.host_key_alias,
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


# Connecting


def dial(route: Route, ask: SecretPrompt) -> WatchedTransport:
    """Connect to a host through its jump hosts, and log in.

    Raises `ConnectError` that names the server on the way where it failed, why, and what to do.
    """
    transport: WatchedTransport | None = None
    for position, hop in enumerate(route.hops):
        try:
            with _LOGINS[hop.address, hop.port]:
                transport = _reach(hop, transport, ask)
        except Exception as error:
            if transport is not None:
                transport.close()
            raise connect_error(route, error, position) from error
    assert transport is not None
    return transport


_LOGINS: dict[tuple[str, int], BoundedSemaphore] = defaultdict(lambda: BoundedSemaphore(LOGINS_AT_ONCE))


def _reach(hop: Hop, via: WatchedTransport | None, ask: SecretPrompt) -> WatchedTransport:
    known = hop.known()
    connection = _connection(hop, via)
    transport = WatchedTransport(connection)
    transport.behind = via
    transport.banner_timeout = CONNECT_TIMEOUT
    transport.host_key_algorithms = algorithms(known, hop.names)
    try:
        transport.start_client(timeout=2 * CONNECT_TIMEOUT)
        if not transport.initial_kex_done:
            raise TimeoutError(f"no answer within {2 * CONNECT_TIMEOUT} s")
        unproven = _check_host_key(transport, hop, known)
        try:
            log_in(transport, hop.user, hop.keys, ask)
        except LoginRefusedError as error:
            if unproven is not None:
                raise unproven from error
            raise
        transport.watch()
        if unproven is not None:
            _require_proof(transport, hop, unproven)
    except BaseException as error:
        # The connection to the jump host is closed by the caller.
        transport.behind = None
        transport.close()
        if isinstance(connection, ProxyConnection):
            connection.close()
            if connection.failure:
                raise connection.failure from error
        raise
    return transport


def _connection(hop: Hop, via: WatchedTransport | None) -> Any:
    if via is not None:
        origin = ("127.0.0.1", 0)
        return via.open_channel("direct-tcpip", (hop.address, hop.port), origin, timeout=CONNECT_TIMEOUT)
    if hop.proxy_command:
        return ProxyConnection(_expanded(hop))
    family = _FAMILIES.get(hop.family, socket.AF_UNSPEC)
    refused: OSError | None = None
    for kind, _, _, _, address in socket.getaddrinfo(hop.address, hop.port, family, socket.SOCK_STREAM):
        connection = socket.socket(kind, socket.SOCK_STREAM)
        try:
            connection.settimeout(CONNECT_TIMEOUT)
            connection.connect(address)
            return prepared(connection)
        except OSError as error:
            connection.close()
            refused = error
    raise refused or OSError("it has no address")


def _expanded(hop: Hop) -> str:
    """Return the command of `ProxyCommand` with its tokens replaced."""
    tokens = SshTokens(
        host=hop.address,
        original=hop.alias or hop.address,
        port=str(hop.port),
        user=hop.user,
        home=str(Path.home()),
        key_alias=hop.host_key_alias,
    )
    return tokens.expand(hop.proxy_command)


def algorithms(known: KnownHosts, names: Sequence[str]) -> tuple[str, ...]:
    """Return the host key algorithms to offer: first those of known keys, to be shown one of these."""
    kinds = known.kinds(names)
    wanted = [each for kind in kinds for each in _ALGORITHMS if each == kind or (kind, each[:3]) == _RSA]
    order = tuple(dict.fromkeys((*wanted, *_ALGORITHMS)))
    signed = tuple(f"{each}{_CERTIFICATE}" for each in order) if known.has_authority(names) else ()
    return (*wanted, *signed, *order) if wanted else (*signed, *order)


_RSA = ("ssh-rsa", "rsa")


def _check_host_key(transport: WatchedTransport, hop: Hop, known: KnownHosts) -> HostKeyError | None:
    """Raise `HostKeyError` unless the key that the server shows is trusted.

    A key of a type of which no key of the host is known may be one more key of it: return the error then, for
    `_require_proof`. Until that is called the login may be tried, which reveals nothing but public keys.
    """
    key = transport.get_remote_server_key()
    certificate = getattr(key, "public_blob", None)
    verdict = known.judge(hop.names, key.asbytes(), certificate.key_blob if certificate else None)
    if verdict.trust is Trust.TRUSTED:
        return None
    error = HostKeyError(verdict, known)
    if verdict.trust is Trust.CHANGED and known.of_other_types(hop.names, key.asbytes()):
        return error
    raise error


def _require_proof(transport: WatchedTransport, hop: Hop, unproven: HostKeyError) -> None:
    """Raise the error unless the server proves that it holds a known key, too.

    The operator of another laptop may know a host by a key that its sshd no longer offers to show.
    """
    shown = transport.get_remote_server_key().asbytes()
    if proven(transport, (entry.key for entry in unproven.known.of_other_types(hop.names, shown))) is None:
        raise unproven


# What went wrong


def connect_error(route: Route, error: BaseException, position: int | None = None) -> ConnectError:
    """Turn what happened on the way to a hop into a message: which server, why, and what to do."""
    position = len(route.hops) - 1 if position is None else position
    hop, where = route.hops[position], route.where(position)
    if isinstance(error, ClawdError):
        return ConnectError(f"{where}: {error.message}", advice=error.advice)
    if isinstance(error, HostKeyError):
        return _host_key_error(route, position, error)
    if isinstance(error, LoginRefusedError):
        return _login_error(hop, where, error)
    if isinstance(error, socket.gaierror | UnicodeError):
        malformed = isinstance(error, UnicodeError)
        what = "its name is malformed" if malformed else "its name cannot be resolved"
        return ConnectError(f"{where}: {what}", advice=f"check {_place_of_address(hop)}")
    if isinstance(error, ProxyCommandError):
        return ConnectError(
            f"{where}: cannot be reached: its ProxyCommand failed (status {error.status}"
            + (f": {error.said}" if error.said else "")
            + ")",
            advice=f"run it by hand: {error.command}",
        )
    if isinstance(error, paramiko.ChannelException):
        return _behind_jump_error(route, position, error)
    reason, advice = _reason(error), "check that it is on, its address and port, and any firewall between"
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        advice = "allow one of the current algorithms in its sshd_config; `ssh -vv` lists what it offers"
    elif "banner" in str(error):
        advice = (
            "check that an SSH server listens on that port; one that is overloaded (MaxStartups), or that "
            "banned this address (fail2ban), closes connections at once"
        )
    return ConnectError(f"{where}: cannot be reached ({reason})", advice=advice)


def _place_of_address(hop: Hop) -> str:
    """Return where the address of a hop is written, in words."""
    if hop.entry and hop.alias in ("", hop.address):
        return f"`{hop.entry}.address`"
    of = f" of `{hop.alias}`" if hop.alias not in ("", hop.address) else " and `ProxyJump`"
    return f"`HostName`{of} in ~/.ssh/config"


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return str(error) if "within" in str(error) else f"no answer within {CONNECT_TIMEOUT} s"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error) or type(error).__name__
    if "banner" in text:
        return "what answers there sends no SSH banner"
    return "it closed the connection" if isinstance(error, EOFError) else text


def _host_key_error(route: Route, position: int, error: HostKeyError) -> ConnectError:
    hop, where, verdict = route.hops[position], route.where(position), error.verdict
    address, port = hop.address, hop.port
    if verdict.trust is Trust.REVOKED:
        return ConnectError(
            f"{where}: its host key is revoked ({verdict.place}); it must not be trusted",
            advice="give the server a new host key, or remove the line if it was revoked by mistake",
        )
    if verdict.trust is Trust.BAD_CERTIFICATE:
        return ConnectError(
            f"{where}: its host certificate is not good ({verdict.reason}; authority: {verdict.place})",
            advice="have the authority sign its host key again (`ssh-keygen -s CA -h -n NAMES`)",
        )
    if verdict.trust is Trust.CHANGED:
        return ConnectError(
            f"{where}: it shows another host key than the known one ({verdict.place}); "
            "someone may be listening in",
            advice=(
                "if the server was reinstalled, replace its key "
                f"(`host_key:` or `ssh-keygen -R '{name_of(address, port)}'`)"
            ),
        )
    on = ", run on the jump host," if position > 0 else ""
    to = f"as `host_key:` under `{hop.entry}`" if hop.entry else "into ~/.ssh/known_hosts"
    unreadable = "".join(f"\n    {line}" for line in error.known.unreadable)
    return ConnectError(
        f"{where}: its host key is not known, so it may be another machine"
        + (f"; lines that cannot be read:{unreadable}" if unreadable else ""),
        advice=(
            f"compare `ssh-keyscan -p {port} {address}`{on} with the server's console, then put the key {to}"
        ),
    )


def _login_error(hop: Hop, where: str, error: LoginRefusedError) -> ConnectError:
    tried = f"tried {', '.join(error.tried)}" if error.tried else "there is no key to try"
    said = "; ".join(filter(None, (error.reason, tried, *error.notes)))
    if any("encrypted" in note for note in error.notes):
        entry = f" under `{hop.entry}`" if hop.entry else ""
        given = f", or write `ssh_key_password: !env NAME`{entry}" if hop.entry else ""
        advice = f"`ssh-add` the key{given}; on a terminal the passphrase is asked for"
    elif "ended the connection" in error.reason:
        advice = "name the key as `ssh_key:`, so that others are not tried first"
    else:
        advice = "check `user:` and `ssh_key:`, and that the key is in the server's authorized_keys"
    return ConnectError(f"{where}: login refused ({said})", advice=advice)


def _behind_jump_error(route: Route, position: int, error: paramiko.ChannelException) -> ConnectError:
    jump = route.where(position - 1)
    if error.code == paramiko.common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
        return ConnectError(
            f"{jump}: it lets no connection through to {route.hops[position].address}",
            advice="allow `AllowTcpForwarding` (and `PermitOpen`) in its sshd_config",
        )
    hop = route.hops[position - 1]
    return ConnectError(
        f"{route.where(position)}: cannot be reached from its jump host {hop.address} ({error.text})",
        advice="check that it is on, that the jump host resolves its address, and any firewall between",
    )
