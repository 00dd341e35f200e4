"""One shell on a host for all commands of its checks.

A check costs a few commands. testinfra's own backend starts `ssh`, a login shell and `sudo` for each of them;
here they are read, one after another, by a shell that is there already.
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
    """testinfra's way to a host through the standard input and outputs of one shell there.

    Args:
        hostname: what testinfra calls the host.
        shell: this side of the shell; closed by `close`.
    """

    NAME = "clawd-shell"

    def __init__(self, hostname: str, shell: Ends) -> None:
        super().__init__(hostname)
        self._shell = shell

    def run(self, command: str, *args: str, stdin: str = "", **_: Any) -> CommandResult:
        """Runs a command in a shell of its own, with lines of text as its `stdin`, which no argument shows.

        Raises `VerifyError` when the connection is gone.
        """
        line = self.get_command(command, *args)
        mark = secrets.token_hex(16).encode()
        told = f"printf '\\n{mark.decode()} %d\\n' \"$?\"; printf '\\n{mark.decode()}\\n' >&2"
        given = f"<<'{mark.decode()}'\n{stdin}\n{mark.decode()}\n{told}" if stdin else f"</dev/null; {told}"
        script = f"sh -c {shlex.quote(line)} {given}\n".encode()
        try:
            while script:
                script = script[os.write(self._shell.stdin, script) :]
        except OSError:
            self._broken(b"")
        out, status, err = self._answer(mark)
        return self.result(status, line.encode(), out, err)

    def close(self) -> None:
        """Ends the shell."""
        for end in (self._shell.stdin, self._shell.stdout, self._shell.stderr):
            os.close(end)

    def _answer(self, mark: bytes) -> tuple[bytes, int, bytes]:
        """What the command printed on both outputs, and how it ended; read until both have their mark."""
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
        # The end of one output may be seen before what was said on the other, which is why it broke.
        while select.select([self._shell.stderr], [], [], 1.0)[0]:
            piece = os.read(self._shell.stderr, _AT_ONCE)
            if not piece:
                break
            said += piece
        told = said.decode(errors="replace").strip()[-500:]
        raise VerifyError(f"{self.hostname}: the connection broke during a check\n{told}")


@dataclass
class _Output:
    """What came over one output, and what stands behind the command's own part."""

    mark: bytes
    printed: bytearray = field(default_factory=bytearray)

    @property
    def ended(self) -> bool:
        """Whether the mark and the rest of its line are there."""
        return self.mark in self.printed and self.printed.endswith(b"\n")

    @property
    def text(self) -> bytes:
        return bytes(self.printed.rpartition(self.mark)[0])

    @property
    def after(self) -> bytes:
        return bytes(self.printed.rpartition(self.mark)[2])
