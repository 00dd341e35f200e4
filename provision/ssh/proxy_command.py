"""The program of `ProxyCommand` in ssh_config(5) as a connection to an SSH server.

`ssh` gives the command to the user's shell behind `exec`, and so does this. Both ends of the program's input
and output are one socket here; what it writes to standard error is kept for messages.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import threading
from typing import Any

_MOST_SAID = 4096
_END_S = 1.0


class ProxyCommandError(Exception):
    """The command ended before the SSH server behind it answered."""

    def __init__(self, command: str, status: int, said: str) -> None:
        self.command, self.status, self.said = command, status, said
        super().__init__(f"{command} exited with status {status}" + (f": {said}" if said else ""))


class ProxyConnection:
    """A running command that behaves like a socket. Closing it ends the command.

    Args:
        command: as the shell reads it, with tokens replaced.

    """

    def __init__(self, command: str) -> None:
        self.command = command
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the connection)
        self._socket, theirs = socket.socketpair()
        shell = os.environ.get("SHELL") or "/bin/sh"
        try:
            # The command is the user's own setting, run as `ssh` runs it: it may ask on the terminal. Ctrl-C
            # is for this program alone, which ends the command when it closes the connection.
            self._process = subprocess.Popen(
                [shell, "-c", f"exec {command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=self._said,
                preexec_fn=_ignore_interrupts,  # noqa: PLW1509 - only sets a signal
            )
        except OSError:
            self._socket.close()
            self._said.close()
            raise
        finally:
            theirs.close()

        self._broken = self._closed = False
        self._closing = threading.Lock()
        self.failure: ProxyCommandError | None = None
        """The failure of the command if it ended on its own; known once the connection is closed."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def recv(self, size: int) -> bytes:
        """Receive as a socket does."""
        try:
            data = self._socket.recv(size)
        except ConnectionError:
            self._broken = True
            raise
        self._broken = not data
        return data

    def send(self, data: bytes) -> int:
        """Send as a socket does."""
        try:
            return self._socket.send(data)
        except ConnectionError:
            self._broken = True
            raise

    def close(self) -> None:
        """Close the connection, and end the command."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            try:
                # It exits a moment after the end of its output.
                status = self._process.wait(timeout=_END_S if self._broken else 0)
                self.failure = ProxyCommandError(self.command, status, self._last_line())
            except subprocess.TimeoutExpired:
                pass
            self._socket.close()
            self._process.terminate()
            try:
                self._process.wait(timeout=_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._said.close()

    def _last_line(self) -> str:
        self._said.seek(max(0, self._said.seek(0, os.SEEK_END) - _MOST_SAID))
        lines = self._said.read().decode(errors="replace").splitlines()
        return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _ignore_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
