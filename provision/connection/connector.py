"""The pyinfra connector over the connection of a run, so that all commands start in the same way."""

from __future__ import annotations

import logging
import shlex
from typing import Any, cast

from pyinfra.api import StringCommand
from pyinfra.connectors.ssh import SSHConnector
from pyinfra.connectors.util import CommandOutput, make_unix_command, read_output_buffers, write_stdin

from deploys.ops.run_state import run_state
from provision.connection.link import BROKEN, HostConnection, RemoteProcess, lines

_LOG = logging.getLogger("pyinfra")
_OTHER_SUDO = ("_sudo_user", "_use_sudo_login", "_preserve_sudo_env")


class LinkConnector(SSHConnector):  # type: ignore[misc]
    """The connector of a `Session`. File transfer is pyinfra's own, over the same connection."""

    @property
    def link(self) -> HostConnection:
        """Return the host's connection."""
        return cast(HostConnection, run_state(self.host).link)

    def connect(self) -> None:
        """Connect. Raises `inventory.errors.ConnectError`."""
        self.link.connect()
        self.client = _Client(self.link)

    def disconnect(self) -> None:
        """Close the connection."""
        super().disconnect()
        self.link.close()

    def start(self, command: StringCommand, **arguments: Any) -> RemoteProcess:
        """Start a command with pyinfra's arguments, its standard input open.

        Raises as `HostConnection.start`.
        """
        pty = bool(arguments.pop("_get_pty", False))
        for key in ("_timeout", "_stdin", "_success_exit_codes"):
            arguments.pop(key, None)
        root = bool(arguments.get("_sudo")) and not any(arguments.get(key) for key in _OTHER_SUDO)
        line = make_unix_command(command, **{**arguments, "_sudo": bool(arguments.get("_sudo")) and not root})
        _LOG.debug("Running command on %s: (pty=%s) %s", self.host.name, pty, line)
        raw: str = line.get_raw_value()
        # Any other line becomes one argument of a separate shell.
        words = raw if raw.startswith("sh -c ") else f"sh -c {shlex.quote(raw)}"
        return self.link.start(words, root=root, pty=pty)

    def run_shell_command(
        self, command: StringCommand, print_output: bool = False, print_input: bool = False, **arguments: Any
    ) -> tuple[bool, CommandOutput]:
        """Run a command; return whether it succeeded, and its output. Raises as `HostConnection.start`."""
        timeout, stdin = arguments.get("_timeout"), arguments.get("_stdin")
        expected = arguments.get("_success_exit_codes") or [0]
        process = self.start(command, **arguments)
        try:
            if stdin:
                write_stdin(stdin, _Input(process))
            process.close_stdin()
            output = read_output_buffers(
                lines(process.stdout), lines(process.stderr), timeout, print_output, self.host.print_prefix
            )
            return process.wait() in expected, output
        except TimeoutError:
            self.link.check()
            raise
        except BROKEN as error:
            raise self.link.broken(error) from error
        finally:
            process.close()


class _Input:
    """A process's standard input for pyinfra. It ignores that a program stops reading."""

    def __init__(self, process: RemoteProcess) -> None:
        self._process = process

    def write(self, data: bytes) -> None:
        try:
            self._process.write(data)
        except OSError:
            return

    def close(self) -> None:
        """Do nothing: the caller closes it."""


class _Client:
    """The part of paramiko's client that pyinfra and the components use."""

    def __init__(self, link: HostConnection) -> None:
        self._link = link

    def get_transport(self) -> Any:
        return self._link.transport()

    def close(self) -> None:
        self._link.close()
