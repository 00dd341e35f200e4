"""Python programs in forks of one process that has imported their modules already.

Importing pyinfra and the components takes most of a second of a processor, and tests on hosts start pyinfra
hundreds of times. Each program has its own arguments, environment, folder and files, as with `python -m`.

    process = start("pyinfra", ["--yes", "hosts.py", "deploy.py"], cwd=folder, stdout=subprocess.PIPE)

What is returned is the process of `client.py`, which ends when the program does, with its exit code; the
program is killed when that process is.
"""

from __future__ import annotations

import atexit
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from provision.verification import run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ON_GEVENT = ("drift", "plan", "remove", "up", "verify")
"""The commands of `clawd-provision` that run on gevent, as pyinfra and verifications do."""


def start(program: str, arguments: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start `program`, one of `server.PROGRAMS`; `options` are those of `subprocess.Popen`."""
    return subprocess.Popen([*command(program), *arguments], text=True, **options)


def command(program: str) -> list[str]:
    """Return the command that stands for `program`, which runs on gevent."""
    return client(_server("gevent"), program)


def command_line(*words: str | bytes) -> list[str | bytes]:
    """Return the command that stands for `clawd-provision` with these words."""
    kind = "gevent" if words[0] in ON_GEVENT else "plain"
    return [*client(_server(kind), "clawd-provision"), *words]


def client(address: Path | str, program: str) -> list[str]:
    """Return the command that has a server run `program`."""
    return [sys.executable, "-I", "-S", str(HERE / "client.py"), str(address), program]


@contextmanager
def verifying() -> Iterator[None]:
    """Have the processes of verifications start in this way."""
    original = run.pytest_command
    verify_with(command("pytest"))
    try:
        yield
    finally:
        run.pytest_command = original


def verify_with(pytest: Sequence[str]) -> None:
    """Have verifications start this command, from now on, in place of `python -m pytest`."""
    original = run.pytest_command

    def pytest_command(modules: Sequence[Path]) -> list[str]:
        words = original(modules)
        return [*pytest, *words[words.index("pytest") + 1 :]]

    run.pytest_command = pytest_command


@cache
def _server(kind: str) -> Path:
    """Start the server once, on gevent or plain, and return its socket. It ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="clawd-preloaded")
    address = Path(folder.name) / "socket"
    server = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), str(address), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    atexit.register(folder.cleanup)
    assert server.stdout
    assert server.stdout.read(1) == b"+", "the server did not start"
    return address
