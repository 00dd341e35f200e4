"""One shell on a host for all commands of its checks.

A check runs a few commands. testinfra's own backend starts `ssh`, a login shell and `sudo` for each of them;
here one running shell reads them one after another.
"""

from __future__ import annotations

import os
import secrets
import select
import selectors
import shlex
from dataclasses import dataclass, field
from typing import Any, NoReturn

from testinfra.backend.base import BaseBackend, CommandResult

from inventory.errors import VerifyError

_AT_ONCE = 1 << 16


@dataclass(frozen=True, slots=True)
class Ends:
    """File descriptors of a POSIX shell that reads its commands from standard input."""

    stdin: int
    stdout: int
    stderr: int


class ShellBackend(BaseBackend):  # type: ignore[misc]
    """A testinfra backend that uses the standard input and outputs of one shell on the host.

    Args:
        hostname: the name of the host in testinfra.
        shell: the descriptors of the shell; closed by `close`.

    """

    NAME = "clawd-shell"

    def __init__(self, hostname: str, shell: Ends) -> None:
        super().__init__(hostname)
        self._shell = shell

    def run(self, command: str, *args: str, stdin: str = "", **_: Any) -> CommandResult:
        """Run a command in its own shell, with `stdin` as lines of text that no argument contains.

        Raises `VerifyError` when the connection is lost.
        """
        line = self.get_command(command, *args)
        mark = secrets.token_hex(16).encode()
        end = f"printf '\\n{mark.decode()} %d\\n' \"$?\"; printf '\\n{mark.decode()}\\n' >&2"
        rest = f"<<'{mark.decode()}'\n{stdin}\n{mark.decode()}\n{end}" if stdin else f"</dev/null; {end}"
        script = f"sh -c {shlex.quote(line)} {rest}\n".encode()
        try:
            while script:
                script = script[os.write(self._shell.stdin, script) :]
        except OSError:
            self._broken(b"")
        out, status, err = self._answer(mark)
        return self.result(status, line.encode(), out, err)

    def close(self) -> None:
        """Close the descriptors, which ends the shell."""
        for end in (self._shell.stdin, self._shell.stdout, self._shell.stderr):
            os.close(end)

    def _answer(self, mark: bytes) -> tuple[bytes, int, bytes]:
        """Read both outputs up to their marks; return output, exit status and error output."""
        out, err = _Output(b"\n" + mark + b" "), _Output(b"\n" + mark + b"\n")
        with selectors.DefaultSelector() as ready:
            ready.register(self._shell.stdout, selectors.EVENT_READ, out)
            ready.register(self._shell.stderr, selectors.EVENT_READ, err)
            while ready.get_map():
                for key, _ in ready.select():
                    piece = os.read(key.fd, _AT_ONCE)
                    if not piece:
                        self._broken(bytes(err.printed))
                    key.data.printed += piece
                    if key.data.ended:
                        ready.unregister(key.fileobj)
        return out.text, int(out.after), err.text

    def _broken(self, said: bytes) -> NoReturn:
        # The reason may still arrive on the error output after the end of the other output.
        while select.select([self._shell.stderr], [], [], 1.0)[0]:
            piece = os.read(self._shell.stderr, _AT_ONCE)
            if not piece:
                break
            said += piece
        reason = said.decode(errors="replace").strip()[-500:]
        raise VerifyError(
            f"{self.hostname}: the connection was lost during a check: {reason}",
            advice="check the network and that the host is running, then run `verify`",
        )


@dataclass
class _Output:
    """The data received on one output, and the part after the mark."""

    mark: bytes
    printed: bytearray = field(default_factory=bytearray)

    @property
    def ended(self) -> bool:
        """Return whether the mark and the rest of its line were received."""
        return self.mark in self.printed and self.printed.endswith(b"\n")

    @property
    def text(self) -> bytes:
        return bytes(self.printed.rpartition(self.mark)[0])

    @property
    def after(self) -> bytes:
        return bytes(self.printed.rpartition(self.mark)[2])
