"""A real OpenSSH server on loopback, with users, shells and startup files of its own.

As root it runs in a mount namespace in which `/etc/passwd` is its own; else it lets in this process's user
alone.
"""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

SSHD = os.environ.get("CLAWD_TEST_SSHD") or shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or ""
needs_sshd = pytest.mark.skipif(not os.access(SSHD, os.X_OK), reason="CLAWD_TEST_SSHD names no sshd")


@dataclass(frozen=True)
class Sshd:
    """A server that runs. `folder` is where its files are; `home` is that of the login `user`."""

    folder: Path
    port: int
    user: str

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def host_key(self, kind: str = "ed25519") -> str:
        return " ".join((self.folder / f"host_{kind}.pub").read_text().split()[:2])


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "", *more: str) -> Path:
    """Makes a key pair; returns the private key's path."""
    bits = ("-b", "2048") if kind == "rsa" else ()
    command = [
        "ssh-keygen",
        "-q",
        "-t",
        kind,
        *bits,
        "-N",
        passphrase,
        "-f",
        str(path),
        "-C",
        path.name,
        *more,
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True)
    return path


@contextmanager
def serving(
    folder: Path, *keys: Path, host_keys: tuple[str, ...] = ("ed25519",), options: str = "", startup: str = ""
) -> Iterator[Sshd]:
    """Serves until the block ends, and lets in the public halves of `keys`."""
    if startup and os.getuid() != 0:
        pytest.skip("a login with startup files of its own needs root")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    me = pwd.getpwuid(os.getuid())
    (folder / "home").mkdir(exist_ok=True)
    (folder / "home" / ".bashrc").write_text(startup)
    for kind in host_keys:
        if not (folder / f"host_{kind}").exists():
            keygen(folder / f"host_{kind}", kind)
    authorized = folder / "authorized_keys"
    authorized.write_text("".join(key.with_name(key.name + ".pub").read_text() for key in keys))
    (folder / "passwd").write_text(
        f"{me.pw_name}:x:{os.getuid()}:{os.getgid()}::{folder / 'home'}:/bin/bash\n"
        "sshd:x:64321:65534::/run/sshd:/usr/sbin/nologin\n"
        "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (folder / "config").write_text(
        f"{options}Port {port}\nListenAddress 127.0.0.1\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        + "".join(f"HostKey {folder / f'host_{kind}'}\n" for kind in host_keys)
        + f"AuthorizedKeysFile {authorized}\nMaxStartups 100\nLogLevel VERBOSE\n"
    )
    command = [SSHD, "-D", "-e", "-f", str(folder / "config")]
    if os.getuid() == 0:
        inside = (
            f"mount --bind {shlex.quote(str(folder / 'passwd'))} /etc/passwd && mkdir -p /run/sshd && "
            f"mount -t tmpfs -o mode=755 none /run/sshd && exec {shlex.join(command)}"
        )
        command = ["unshare", "--mount", "sh", "-c", inside]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    server = Sshd(folder, port, me.pw_name)
    try:
        _await(server, process)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=10)


def _await(server: Sshd, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        if "Server listening" in server.log:
            return
        time.sleep(0.05)
    raise AssertionError(f"sshd does not start:\n{server.log}")


@contextmanager
def agent(folder: Path, *keys: Path, passphrase: str = "") -> Iterator[str]:
    """An ssh-agent that holds keys; yields its socket."""
    path = folder / "agent.sock"
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        while not path.exists():
            time.sleep(0.02)
        answer = folder / "askpass"
        answer.write_text(f"#!/bin/sh\necho {shlex.quote(passphrase)}\n")
        answer.chmod(0o700)
        variables = {"SSH_AUTH_SOCK": str(path), "SSH_ASKPASS": str(answer), "SSH_ASKPASS_REQUIRE": "force"}
        for key in keys:
            subprocess.run(
                ["ssh-add", "-q", str(key)],
                check=True,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
        yield str(path)
    finally:
        process.terminate()
        process.wait(timeout=10)
