"""The connection to one host, and programs started over it as the login or as root.

A program is started by the login shell, whose startup files may print, be slow or end the shell. Output
before the program starts is dropped: a random mark on both outputs marks the beginning of the program's own
output. A sudo password is written to sudo's standard input, never to arguments or files.
"""

from __future__ import annotations

import io
import secrets
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gevent
import gevent.lock
import paramiko

from inventory.errors import ClawdError, ConnectError, HostError
from provision.local.ask import SecretPrompt
from provision.ssh.connect import dial
from provision.ssh.connect_errors import connect_error
from provision.ssh.route import Route
from provision.ssh.transport import WatchedTransport

START_S = 60
"""Seconds within which a login shell must start a program."""
SLOW_START_S = 4
BROKEN = (OSError, EOFError, paramiko.SSHException)
_PIECE = 1 << 16


class _Output(io.RawIOBase):
    """One output of a program as a file."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive = receive

    def readable(self) -> bool:
        """Return `True`."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with received data and return its length; 0 at the end."""
        data = self._receive(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class RemoteProcess:
    """A program that runs on a host. Its outputs are binary files without the output of the login shell."""

    def __init__(self, link: HostConnection, channel: paramiko.Channel) -> None:
        self._link = link
        self._channel = channel
        self.stdout = io.BufferedReader(_Output(channel.recv), _PIECE)
        self.stderr = io.BufferedReader(_Output(channel.recv_stderr), _PIECE)

    def write(self, data: bytes) -> None:
        """Write to its standard input. Raises `OSError` when it has ended."""
        self._channel.sendall(data)

    def close_stdin(self) -> None:
        """Close its standard input."""
        self._channel.shutdown_write()

    def read(self) -> tuple[bytes, bytes]:
        """Read both outputs to their end and return them."""
        errors = gevent.spawn(self.stderr.read)
        try:
            return self.stdout.read(), errors.get()
        finally:
            errors.kill(block=False)

    def wait(self) -> int:
        """Wait for its end and return its exit status. Raises `ConnectError` when the connection is lost."""
        status = self._channel.recv_exit_status()
        if status == -1:
            self._link.check()
        return status

    @property
    def running(self) -> bool:
        """Return whether it has not ended, as far as known here."""
        return not (self._channel.closed or self._channel.exit_status_ready())

    def close(self) -> None:
        """Close the program's input and outputs."""
        self._channel.close()


@dataclass(frozen=True, slots=True)
class Ended:
    """The exit status and the output of a program."""

    status: int
    stdout: str
    stderr: str


class HostConnection:
    """The connection to one host.

    Args:
        route: the addresses and logins on the way to the host.
        ask: prompts the user for passphrases and a sudo password.
        sudo_password: the password that the inventory declares for the login.

    """

    def __init__(self, route: Route, ask: SecretPrompt, sudo_password: str | None = None) -> None:
        self.route = route
        self.slow_start = 0.0
        """Seconds that the login shell needs for every command if it is slow, else 0."""
        self._ask = ask
        self._declared_password = sudo_password
        self._password: str | None = None
        self._is_root = False
        self._becoming_root = gevent.lock.RLock()
        self._transport: WatchedTransport | None = None

    @property
    def name(self) -> str:
        """Return the host's name in the inventory."""
        return self.route.name

    @property
    def user(self) -> str:
        """Return the login."""
        return self.route.host.user

    @property
    def uses_sudo(self) -> bool:
        """Return whether commands run as root with sudo."""
        return self.user != "root"

    @property
    def has_sudo_password(self) -> bool:
        """Return whether sudo requires a password that is known."""
        return self._password is not None

    @property
    def host_key(self) -> str:
        """Return the host's key of this connection, as in known_hosts: algorithm and base64."""
        key = self.transport().get_remote_server_key()
        return f"{key.get_name()} {key.get_base64()}"

    # The connection

    def connect(self) -> None:
        """Connect; close an existing connection first. Raises `ConnectError`."""
        self.close()
        self._transport = dial(self.route, self._ask)

    def close(self) -> None:
        """Close the connection and thereby end everything started over it."""
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    @property
    def opened(self) -> bool:
        """Return whether it was opened and not closed here since."""
        return self._transport is not None

    @property
    def lost(self) -> str:
        """Return why the connection was lost; empty while it is open."""
        if self._transport is None:
            return "it was closed"
        if self._transport.is_active():
            return ""
        behind = self._transport.behind
        jump = f"its jump host: {behind.lost}" if behind is not None and behind.lost else ""
        return jump or self._transport.lost or "the host ended it"

    def check(self) -> None:
        """Raise `ConnectError` when the connection is lost."""
        if why := self.lost:
            raise ConnectError(
                f"{self.name}: the connection was lost: {why}",
                advice="check the network and that the host is running, then run the command again",
            )

    def transport(self) -> WatchedTransport:
        """Return the open connection. Raises `ConnectError` when it is lost."""
        self.check()
        assert self._transport is not None
        return self._transport

    def broken(self, error: BaseException) -> ClawdError:
        """Return the error to raise for an exception of the connection."""
        try:
            self.check()
        except ConnectError as gone:
            return gone
        return connect_error(self.route, error)

    # Programs

    def run(self, command: str, *, root: bool = False, stdin: bytes = b"") -> Ended:
        """Run a simple command (words as for a shell) and wait for its end.

        Raises `HostError` when it cannot be started, `ConnectError` when the connection is lost.
        """
        process = self.start(command, root=root)
        try:
            with suppress(OSError):  # a program may end without reading
                process.write(stdin)
                process.close_stdin()
            out, err = process.read()
            return Ended(process.wait(), out.decode(errors="replace"), err.decode(errors="replace"))
        except BROKEN as error:
            raise self.broken(error) from error
        finally:
            process.close()

    def start(self, command: str, *, root: bool = False, pty: bool = False) -> RemoteProcess:
        """Start a simple command (words as for a shell), with `root` as root.

        Raises `HostError` when the login shell or sudo does not start it, `ConnectError` when the connection
        is lost.
        """
        if root:
            self.become_root()
        try:
            return self._start(command, root, pty)
        except BROKEN as error:
            raise self.broken(error) from error

    def _start(self, command: str, root: bool, pty: bool) -> RemoteProcess:
        first, second, given = (secrets.token_hex(8) for _ in range(3))
        mark = f"printf '\\n%s%s\\n' {first} {second}"
        script = f'{mark}; {mark} >&2; exec "$@"'
        sudo, prefix = "", b""
        if root and self.uses_sudo:
            sudo = "sudo -H -n "
            if self._password is not None:
                # sudo reads the password only if it asks for it; otherwise the script skips that line.
                sudo = "sudo -H -S -p '' "
                script = f'IFS= read -r line; [ "$line" = {given} ] || IFS= read -r line; {script}'
                prefix = f"{self._password}\n{given}\n".encode()
        started = time.monotonic()
        channel = self.transport().open_session()
        process = RemoteProcess(self, channel)
        try:
            if pty:
                channel.get_pty()
            channel.exec_command(f"exec {sudo}sh -c {shlex.quote(script)} sh {command}")
            channel.sendall(prefix)
            self._await(process, f"{first}{second}".encode())
        except BaseException:
            process.close()
            raise
        if (took := time.monotonic() - started) > SLOW_START_S:
            self.slow_start = took
        return process

    def _await(self, process: RemoteProcess, mark: bytes) -> None:
        printed: list[bytes] = []
        late = gevent.Timeout(START_S)
        try:
            with late:
                began = [_skipped_to(mark, output, printed) for output in (process.stdout, process.stderr)]
        except gevent.Timeout as timeout:
            if timeout is not late:
                raise
            raise HostError(
                f"{self.name}: the login shell of {self.user} did not start a command within {START_S} s",
                advice="check its startup files (~/.bashrc, ~/.profile, /etc/profile.d) for commands that "
                "wait",
            ) from None
        if all(began):
            return
        self.check()
        text = b"".join(printed).decode(errors="replace").strip()
        raise _not_started(self.name, self.user, text)

    # Root

    def become_root(self) -> None:
        """Check that commands can run as root; prompt for the sudo password if one is required.

        Raises `HostError` when they cannot.
        """
        with self._becoming_root:
            if self._is_root:
                return
            if self.uses_sudo:
                self._through_sudo()
            else:
                self.run("true")
            self._is_root = True

    def _through_sudo(self) -> None:
        tried = self.run("env LC_ALL=C sudo -n sh -c :")
        if tried.status == 0:
            return
        if "password is required" not in tried.stderr:
            raise _no_sudo(self.name, self.user, tried.stderr.strip())
        if self._declared_password is not None:
            if not self._accepts(self._declared_password):
                raise HostError(
                    f"{self.name}: sudo does not accept the password of {self.user}",
                    advice=f"correct `hosts.{self.name}.sudo_password`",
                )
            self._password = self._declared_password
            return
        question = f"sudo password of {self.user} on {self.name}"
        self._password = self._ask.secret(f"sudo {self.user}", question, self._accepts)
        if self._password is None:
            raise HostError(
                f"{self.name}: sudo requires a password of {self.user}, but none was given",
                advice=(
                    f"write `sudo_password: !env NAME` under `hosts.{self.name}`, run the command on a "
                    "terminal, or give the login sudo without a password"
                ),
            )

    def _accepts(self, password: str) -> bool:
        # One line only: a second attempt of sudo would count as a second failure.
        command = "env LC_ALL=C sudo -k -S -p '' sh -c :"
        tried = self.run(command, stdin=f"{password}\n".encode())
        if tried.status != 0 and "password" not in tried.stderr and "try again" not in tried.stderr:
            raise _no_sudo(self.name, self.user, tried.stderr.strip())
        return tried.status == 0


def lines(output: Any) -> Iterator[str]:
    """Yield the lines of a process's output as text; invalid UTF-8 is replaced."""
    for line in output:
        yield line.decode(errors="replace")


def _skipped_to(mark: bytes, output: Any, printed: list[bytes]) -> bool:
    """Read up to the mark and return whether it was found; append the output before it to `printed`."""
    while line := output.readline():
        if line.rstrip(b"\r\n") == mark:
            return True
        printed.append(line)
    return False


def _not_started(name: str, user: str, text: str) -> HostError:
    if "sudo:" in text or "sudoers" in text:
        return _no_sudo(name, user, text)
    said = f": {text[-500:]}" if text else ""
    return HostError(
        f"{name}: the login shell of {user} ended without running the command{said}",
        advice="check its startup files for `exit`, `exec` or an error, and its shell in /etc/passwd",
    )


def _no_sudo(name: str, user: str, text: str) -> HostError:
    if "not found" in text:
        return HostError(
            f"{name}: sudo is not installed", advice="install it, or connect as root (`user: root`)"
        )
    if "tty" in text:
        return HostError(
            f"{name}: sudo requires a terminal ({text})", advice="remove `requiretty` from its sudoers"
        )
    return HostError(
        f"{name}: {user} may not run commands as root ({text or 'sudo refuses'})",
        advice="give the login sudo for all commands, or connect as root",
    )
