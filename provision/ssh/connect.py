"""Connect to a host through its jump hosts, check host keys, and log in.

Host keys are always checked, those of jump hosts too; `StrictHostKeyChecking` of `~/.ssh/config` does not
count. Every command connects through `dial`, so all of them reach the same hosts (`provision.ssh.route`) and
report problems in the same words (`provision.ssh.connect_errors`).
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gevent.lock import BoundedSemaphore

from provision.local.ask import SecretPrompt
from provision.ssh.config import SshTokens
from provision.ssh.connect_errors import CONNECT_TIMEOUT, HostKeyError, connect_error
from provision.ssh.host_key_proof import proven
from provision.ssh.known_hosts import KnownHosts, Trust
from provision.ssh.login import LoginRefusedError, log_in
from provision.ssh.proxy_command import ProxyConnection
from provision.ssh.route import Hop, Route
from provision.ssh.transport import WatchedTransport, prepared

LOGINS_AT_ONCE = 8
"""Concurrent logins at one server; sshd drops more than 10 unauthenticated connections (`MaxStartups`)."""
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
