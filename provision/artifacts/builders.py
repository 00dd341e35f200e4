"""Machines that can build: this one, or a host over its open SSH connection."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from inventory.errors import ArtifactError, HostError

if TYPE_CHECKING:
    import paramiko

_CHUNK = 1 << 18


class Builder(Protocol):
    """Runs shell scripts on a machine and moves files to and from it."""

    @property
    def name(self) -> str:
        """The machine, for people."""

    @property
    def sudo(self) -> bool:
        """Whether `sudo` is needed for what only root may do."""

    @property
    def install_compiler(self) -> bool:
        """Whether a missing compiler may be installed for the time of the build."""

    def run(self, script: str) -> Generator[str, None, None]:
        """Runs a script and yields its output, line by line.

        Its standard input stays open until the iterator is exhausted or closed. Raises HostError when it
        fails.
        """

    def put(self, source: Path, target: str) -> None:
        """Copies a file there."""

    def get(self, source: str, target: Path) -> None:
        """Copies a file from there."""


class LocalBuilder:
    """This machine. Nothing is installed on it: it is somebody's own."""

    name = "this machine"
    sudo = False
    install_compiler = False

    def run(self, script: str) -> Generator[str, None, None]:
        """See `Builder.run`. The script has a process group of its own, which ends with the iterator."""
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
        """See `Builder.put`."""
        shutil.copyfile(source, target)

    def get(self, source: str, target: Path) -> None:
        """See `Builder.get`."""
        shutil.copyfile(source, target)


class SshBuilder:
    """A host, over a connection that somebody else opened and will close."""

    install_compiler = True

    def __init__(self, name: str, client: paramiko.SSHClient, *, user: str) -> None:
        self._name = name
        self._client = client
        self._sudo = user != "root"

    @property
    def name(self) -> str:
        """The host's name in the inventory."""
        return self._name

    @property
    def sudo(self) -> bool:
        """True unless the login is root."""
        return self._sudo

    def run(self, script: str) -> Generator[str, None, None]:
        """See `Builder.run`. Closing the channel closes the script's standard input."""
        channel = self._channel()
        try:
            channel.set_combine_stderr(True)
            channel.exec_command(f"sh -c {shlex.quote(script)}")
            tail: list[str] = []
            with channel.makefile("rb") as output:
                for line in output:
                    tail = [*tail[-30:], line.decode(errors="replace").rstrip("\n")]
                    yield tail[-1]
            status = channel.recv_exit_status()
        finally:
            channel.close()
        if status:
            raise _failed(self.name, status, tail)

    def put(self, source: Path, target: str) -> None:
        """See `Builder.put`."""
        channel = self._channel()
        try:
            channel.exec_command(f"cat > {shlex.quote(target)}")
            with source.open("rb") as handle:
                while chunk := handle.read(_CHUNK):
                    channel.sendall(chunk)
            channel.shutdown_write()
            if status := channel.recv_exit_status():
                raise _failed(self.name, status, [f"{target} cannot be written"])
        finally:
            channel.close()

    def get(self, source: str, target: Path) -> None:
        """See `Builder.get`."""
        channel = self._channel()
        try:
            channel.exec_command(f"cat {shlex.quote(source)}")
            with target.open("wb") as handle:
                while chunk := channel.recv(_CHUNK):
                    handle.write(chunk)
            if status := channel.recv_exit_status():
                raise _failed(self.name, status, [f"{source} cannot be read"])
        finally:
            channel.close()

    def _channel(self) -> paramiko.Channel:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise ArtifactError(f"{self.name}: the connection is closed; nothing can be built there")
        return transport.open_session()


def _failed(name: str, status: int, tail: list[str]) -> HostError:
    reasons = [line for line in tail if line.startswith("clawd: ") or "error:" in line] or tail[-8:]
    return HostError(f"{name}: the build failed with status {status}:\n" + "\n".join(reasons))
