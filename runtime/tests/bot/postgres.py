"""A PostgreSQL server for tests, created in a temporary folder and removed afterwards.

Its programs are those of Debian's package `postgresql-NN`, or in the folder `CLAWD_TEST_POSTGRES`.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

PASSWORD = "a-password-that-no-log-may-show"
NUMBERS = itertools.count(1)


def programs() -> Path:
    """Return the folder of `postgres` and `initdb`; fail the test without them instead of skipping it."""
    given = os.environ.get("CLAWD_TEST_POSTGRES")
    found = [Path(given)] if given else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    for folder in reversed(found):
        if (folder / "initdb").exists():
            return folder
    pytest.fail("no PostgreSQL: install Debian's postgresql, or name its bin folder in CLAWD_TEST_POSTGRES")


class Server:
    """A server that can be stopped, killed and restarted."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._programs = programs()
        self._process: subprocess.Popen[bytes] | None = None
        if os.getuid() == 0:
            user = pwd.getpwnam("nobody")
            os.chown(folder, user.pw_uid, user.pw_gid)
            self._as_user = [
                "setpriv",
                f"--reuid={user.pw_uid}",
                f"--regid={user.pw_gid}",
                "--clear-groups",
            ]
        else:
            self._as_user = []
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        self._run(
            "initdb",
            "-D",
            str(folder / "data"),
            "-U",
            "clawd",
            "-A",
            "scram-sha-256",
            "--no-sync",
            f"--pwfile={folder / 'password'}",
            "-E",
            "UTF8",
            "--locale=C",
        )

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                *self._as_user,
                self._programs / "postgres",
                "-D",
                self.folder / "data",
                "-p",
                str(self.port),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                f"unix_socket_directories={self.folder}",
                "-c",
                "shared_buffers=16MB",
                "-c",
                "max_connections=60",
                "-c",
                "jit=off",
            ],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
            cwd=self.folder,
        )
        deadline = time.monotonic() + 20.0
        while True:
            try:
                return self.connect("postgres").close()
            except psycopg.OperationalError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()
                time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends every session immediately; SIGQUIT is a crash with later recovery."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20.0)
            self._process = None

    def connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="clawd",
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        )

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        name = f"bots{next(NUMBERS)}"
        with self.connect("postgres") as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://clawd@127.0.0.1:{self.port}/{name}"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._as_user, self._programs / program, *arguments],
            check=True,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )


@contextmanager
def serving_postgres(port: int) -> Iterator[Server]:
    """Yield a running server."""
    folder = Path(tempfile.mkdtemp(prefix="clawd-postgres-"))
    try:
        server = Server(folder, port)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # its data are no longer needed
    finally:
        shutil.rmtree(folder)
