"""An SSH server on loopback for one connection; prints its port. It runs commands as sshd does: in a
session of their own, over pipes. A process of its own, so that it shares nothing with what it tests."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading

import paramiko
from paramiko import common


class AnyoneMayRun(paramiko.ServerInterface):
    def check_auth_none(self, username: str) -> int:
        return common.AUTH_SUCCESSFUL

    def get_allowed_auths(self, username: str) -> str:
        return "none"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        threading.Thread(target=run, args=(channel, command), daemon=True).start()
        return True


def run(channel: paramiko.Channel, command: bytes) -> None:
    process = subprocess.Popen(
        ["/bin/sh", "-c", command.decode()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    threading.Thread(target=feed, args=(channel, process), daemon=True).start()
    errors = threading.Thread(target=complain, args=(channel, process), daemon=True)
    errors.start()
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        while data := os.read(process.stdout.fileno(), 65536):
            channel.sendall(data)
        errors.join()
        channel.send_exit_status(process.wait())
    channel.close()


def complain(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
    assert process.stderr is not None
    with contextlib.suppress(OSError):
        while data := os.read(process.stderr.fileno(), 65536):
            channel.sendall_stderr(data)


def feed(channel: paramiko.Channel, process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(OSError), process.stdin:
        while data := channel.recv(65536):
            process.stdin.write(data)


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(20)
    print(listener.getsockname()[1], flush=True)
    connection, _ = listener.accept()
    server = paramiko.Transport(connection)
    server.add_server_key(paramiko.RSAKey.generate(2048))
    server.start_server(server=AnyoneMayRun())
    server.join()


if __name__ == "__main__":
    main()
