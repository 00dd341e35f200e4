"""Machines that can build: this one, or a host over its open SSH connection."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inventory.errors import HostError

if TYPE_CHECKING:
    from provision.connection.link import HostConnection, RemoteProcess

_CHUNK = 1 << 18


class Builder(Protocol):
    """A machine on which shell scripts run, with file transfer."""

    @property
    def name(self) -> str:
        """Return the name of the machine for messages."""

    @property
    def sudo(self) -> bool:
        """Return whether commands of root need `sudo`."""

    @property
    def install_compiler(self) -> bool:
        """Return whether a missing compiler may be installed during the build."""

    def run(self, script: str) -> Generator[str, None, None]:
        """Run a script and yield its output line by line.

        Its standard input stays open until the iterator is exhausted or closed. Raises `HostError` when the
        script fails.
        """

    def put(self, source: Path, target: str) -> None:
        """Copy a file to the machine."""

    def get(self, source: str, target: Path) -> None:
        """Copy a file from the machine."""


class LocalBuilder:
    """A builder on this machine. Nothing is installed, because the machine belongs to the user."""

    name = "this machine"
    sudo = False
    install_compiler = False

    def run(self, script: str) -> Generator[str, None, None]:
        """Run a script as `Builder.run` does. Its process group is ended with the iterator."""
        process = subprocess.Popen(
            ["sh", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        tail: list[str] = []
        try:
            for line in process.stdout:
                tail = [*tail[-30:], line.rstrip("\n")]
                yield tail[-1]
            process.wait()
        finally:
            process.stdin.close()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
            process.stdout.close()
        if process.returncode:
            raise _failed(self.name, process.returncode, tail)

    def put(self, source: Path, target: str) -> None:
        """Copy a file as `Builder.put` does."""
        shutil.copyfile(source, target)

    def get(self, source: str, target: Path) -> None:
        """Copy a file as `Builder.get` does."""
        shutil.copyfile(source, target)


class SshBuilder:
    """A host over a connection that the caller opens and closes.

    If sudo requires a password there, everything runs as root, because scripts cannot answer the prompt.
    """

    install_compiler = True

    def __init__(self, link: HostConnection) -> None:
        self._link = link
        self._as_root = link.has_sudo_password

    @property
    def name(self) -> str:
        """Return the host's name in the inventory."""
        return self._link.name

    @property
    def sudo(self) -> bool:
        """Return whether commands of root need `sudo`; `False` if scripts run as root."""
        return self._link.uses_sudo and not self._as_root

    def run(self, script: str) -> Generator[str, None, None]:
        """Run a script as `Builder.run` does. Closing the process closes its standard input."""
        process = self._start(f"exec 2>&1\n{script}")
        try:
            tail: list[str] = []
            for line in process.stdout:
                tail = [*tail[-30:], line.decode(errors="replace").rstrip("\n")]
                yield tail[-1]
            status = process.wait()
        finally:
            process.close()
        if status:
            raise _failed(self.name, status, tail)

    def put(self, source: Path, target: str) -> None:
        """Copy a file as `Builder.put` does."""
        process = self._start(f"cat > {shlex.quote(target)}")
        try:
            # If the host's side ends first, its exit status reports the error.
            with source.open("rb") as handle, suppress(OSError):
                while chunk := handle.read(_CHUNK):
                    process.write(chunk)
                process.close_stdin()
            if status := process.wait():
                raise _failed(self.name, status, [f"cannot write {target}"])
        finally:
            process.close()

    def get(self, source: str, target: Path) -> None:
        """Copy a file as `Builder.get` does."""
        process = self._start(f"cat {shlex.quote(source)}")
        try:
            with target.open("wb") as handle:
                while chunk := process.stdout.read(_CHUNK):
                    handle.write(chunk)
            if status := process.wait():
                raise _failed(self.name, status, [f"cannot read {source}"])
        finally:
            process.close()

    def _start(self, script: str) -> RemoteProcess:
        return self._link.start(f"sh -c {shlex.quote(script)}", root=self._as_root)


def _failed(name: str, status: int, tail: list[str]) -> HostError:
    reasons = [line for line in tail if line.startswith("clawd: ") or "error:" in line] or tail[-8:]
    return HostError(f"{name}: the build failed with status {status}:\n" + "\n".join(reasons))
