"""SSH servers on loopback that let in one key: hosts, and jump hosts that lead to one of them."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import paramiko
from paramiko import common


@dataclass
class Server(paramiko.ServerInterface):
    """One SSH server. Who logged in stands in `logins`, where a jump host was asked to lead in `asked`."""

    allowed: paramiko.PKey
    behind: Server | None = None
    key: paramiko.PKey = field(default_factory=paramiko.ECDSAKey.generate)
    logins: list[str] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    port: int = 0
    startup: str = ""
    """What the startup files of the login's shell do before each command. `$SERVER_PORT` is the port."""
    commands: list[str] = field(default_factory=list)

    @property
    def public_key(self) -> str:
        return f"{self.key.get_name()} {self.key.get_base64()}"

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if key != self.allowed:
            return common.AUTH_FAILED
        self.logins.append(username)
        return common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
        self.commands.append(command.decode())
        threading.Thread(target=self._run, args=(channel, command), daemon=True).start()
        return True

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> int:
        if self.behind is None:
            return common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
        self.asked.append(destination)
        return common.OPEN_SUCCEEDED

    def _run(self, channel: Any, command: bytes) -> None:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        shell = ["bash", "-c", f"{self.startup}\n{command.decode()}"]
        env = {**os.environ, "SERVER_PORT": str(self.port)}
        with subprocess.Popen(shell, bufsize=0, env=env, **pipes) as process:  # type: ignore[call-overload]
            assert process.stdin
            assert process.stdout
            assert process.stderr
            ways = (
                (channel.recv, process.stdin.write, process.stdin.close),
                (process.stdout.read, channel.sendall, bool),
                (process.stderr.read, channel.sendall_stderr, bool),
            )
            copies = [threading.Thread(target=_copy_all, args=way, daemon=True) for way in ways]
            for copy in copies:
                copy.start()
            for copy in copies[1:]:
                copy.join()
            channel.send_exit_status(process.wait())
        channel.close()


@contextlib.contextmanager
def serving(*servers: Server) -> Iterator[None]:
    """Serves until the block ends."""
    with contextlib.ExitStack() as opened:
        for server in servers:
            listener = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
            server.port = listener.getsockname()[1]
            threading.Thread(target=_accept, args=(server, listener), daemon=True).start()
        yield


def _accept(server: Server, listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(server, connection), daemon=True).start()


def _serve(server: Server, connection: socket.socket) -> None:
    transport = paramiko.Transport(connection)
    transport.add_server_key(server.key)
    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        transport.start_server(server=server)
        while (channel := transport.accept(10)) is not None:
            if server.behind and server.asked:
                threading.Thread(target=_lead, args=(channel, server.behind), daemon=True).start()


def _lead(channel: Any, behind: Server) -> None:
    with socket.create_connection(("127.0.0.1", behind.port)) as remote:
        back = threading.Thread(target=_copy, args=(remote.recv, channel.sendall), daemon=True)
        back.start()
        _copy(channel.recv, remote.sendall)
        channel.close()


def _copy_all(receive: Any, send: Any, close: Any) -> None:
    _copy(receive, send)
    close()


def _copy(receive: Any, send: Any) -> None:
    with contextlib.suppress(OSError, EOFError):
        while data := receive(65536):
            send(data)
