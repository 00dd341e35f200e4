"""One set of words for what goes wrong on the way to a host."""

from __future__ import annotations

import socket

import paramiko

from inventory.errors import ClawdError, ConnectError
from provision.ssh.known_hosts import HostKeyVerdict, KnownHosts, Trust, name_of
from provision.ssh.login import LoginRefusedError
from provision.ssh.proxy_command import ProxyCommandError
from provision.ssh.route import Hop, Route

CONNECT_TIMEOUT = 15
"""Seconds within which a server must accept a connection."""


class HostKeyError(Exception):
    """A host presents a key that is not trusted."""

    def __init__(self, verdict: HostKeyVerdict, known: KnownHosts) -> None:
        super().__init__(verdict.trust.value)
        self.verdict, self.known = verdict, known


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
    """Return where the address of a hop is written, as text."""
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
            "the connection may be intercepted",
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
