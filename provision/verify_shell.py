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
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from testinfra.backend.base import BaseBackend, CommandResult

from inventory.errors import VerifyError

_AT_ONCE = 1 << 16


class ShellBackend(BaseBackend):  # type: ignore[misc]
    """testinfra's way to a host through the standard input and outputs of one process.

    Args:
        hostname: what testinfra calls the host.
        command: starts a POSIX shell there that reads its commands from standard input.
    """

    NAME = "clawd-shell"

    def __init__(self, hostname: str, command: Sequence[str]) -> None:
        super().__init__(hostname)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )

    def run(self, command: str, *args: str, stdin: str = "", **_: Any) -> CommandResult:
        """Runs a command in a shell of its own, with lines of text as its `stdin`, which no argument shows.

        Raises `VerifyError` when the connection is gone.
        """
        line = self.get_command(command, *args)
        mark = secrets.token_hex(16).encode()
        told = f"printf '\\n{mark.decode()} %d\\n' \"$?\"; printf '\\n{mark.decode()}\\n' >&2"
        given = f"<<'{mark.decode()}'\n{stdin}\n{mark.decode()}\n{told}" if stdin else f"</dev/null; {told}"
        script = f"sh -c {shlex.quote(line)} {given}\n".encode()
        assert self._process.stdin
        try:
            self._process.stdin.write(script)
        except OSError:
            self._broken(b"")
        out, status, err = self._answer(mark)
        return self.result(status, line.encode(), out, err)

    def close(self) -> None:
        """Ends the shell."""
        with self._process as process:
            if process.stdin:
                process.stdin.close()

    def _answer(self, mark: bytes) -> tuple[bytes, int, bytes]:
        """What the command printed on both outputs, and how it ended; read until both have their mark."""
        assert self._process.stdout
        assert self._process.stderr
        out, err = _Output(b"\n" + mark + b" "), _Output(b"\n" + mark + b"\n")
        with selectors.DefaultSelector() as ready:
            ready.register(self._process.stdout, selectors.EVENT_READ, out)
            ready.register(self._process.stderr, selectors.EVENT_READ, err)
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
        assert self._process.stderr
        while select.select([self._process.stderr], [], [], 1.0)[0]:
            piece = os.read(self._process.stderr.fileno(), _AT_ONCE)
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
