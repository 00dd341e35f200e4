"""The attendant between systemd and a container; Docker's client is a stand-in that answers from files."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploys.runtime.container import container_supervisor

CLIENT = """#!{python}
import os, pathlib, socket, sys, time
folder = pathlib.Path({folder!r})
with (folder / "calls").open("a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "run" and os.fork() == 0:
    os.setsid()
    lines = socket.socket(socket.AF_UNIX)
    lines.connect(str(folder / "log"))
    teller = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    teller.sendto(b"MAINPID=7\\nREADY=1\\nSTATUS=serving", str(folder / "notify"))
    lines.sendall(b"first line\\n")
    while not (folder / "end").exists():
        time.sleep(0.02)
    lines.sendall(b"last line\\n")
    (folder / "end").rename(folder / "ended")
elif sys.argv[1] == "stop":
    (folder / "end").write_text("0")
elif sys.argv[1] == "wait":
    while not (folder / "ended").exists():
        if (folder / "away").exists():
            sys.exit("Cannot connect to the Docker daemon")
        time.sleep(0.02)
    if (folder / "forgotten").exists():
        sys.exit("Error: No such container: clawd-bot")
    print((folder / "ended").read_text())
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    made = Service(tmp_path)
    yield made
    (tmp_path / "end").touch()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(made.process.pid, signal.SIGKILL)
    made.process.communicate()
    made.systemd.close()


class Service:
    """An attendant that runs as systemd would have it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        client = folder / "bin" / "docker"
        client.parent.mkdir()
        client.write_text(CLIENT.format(python=sys.executable, folder=str(folder)))
        client.chmod(0o755)
        program = folder / "container_supervisor.py"
        program.write_text(Path(container_supervisor.__file__).read_text())
        (folder / "image.env").write_text("IMAGE=sha256:abc\nBASE=clawd-base:1\n")
        self.systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.systemd.bind(str(folder / "systemd"))
        self.systemd.settimeout(10)
        environment = {
            "PATH": f"{client.parent}:{os.environ['PATH']}",
            "NOTIFY_SOCKET": str(folder / "systemd"),
            "WATCHDOG_USEC": "60000000",
            "CREDENTIALS_DIRECTORY": "/run/credentials/clawd-bot.service",
        }
        words = [str(folder), "clawd-bot", "25", "--memory", "1G", "--", "clawd_runtime.bot", "--config", "f"]
        self.process = subprocess.Popen(
            [sys.executable, str(program), *words],
            stdout=subprocess.PIPE,
            env=environment,
            umask=0o027,
            start_new_session=True,
        )

    def calls(self, verb: str) -> list[str]:
        return [line for line in (self.folder / "calls").read_text().splitlines() if line.startswith(verb)]

    def ended(self) -> tuple[int, bytes]:
        out, _ = self.process.communicate(timeout=20)
        return self.process.returncode, out


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_readiness_and_log_lines_are_forwarded_and_stop_exits_with_0(service: Service) -> None:
    assert service.systemd.recv(4096) == b"READY=1\nSTATUS=serving"
    service.process.send_signal(signal.SIGTERM)
    assert service.ended() == (0, b"first line\nlast line\n")
    assert service.calls("stop") == ["stop --time 25 clawd-bot"]


def test_container_gets_user_limits_and_folders_of_the_service(service: Service) -> None:
    service.systemd.recv(4096)
    (run,) = service.calls("run")
    assert run.startswith("run --detach --name clawd-bot --log-driver none --memory 1G --user ")
    assert f"--user {os.getuid()}:{os.getgid()} --env UMASK=27 " in run
    assert "src=/run/credentials/clawd-bot.service,dst=/run/credentials,readonly" in run
    assert "--env WATCHDOG_USEC" in run
    assert run.endswith("sha256:abc clawd_runtime.bot --config f")
    assert service.calls("rm") == ["rm --force clawd-bot"]


def test_exit_code_is_that_of_the_container(service: Service) -> None:
    service.systemd.recv(4096)
    (service.folder / "end").write_text("3")
    assert service.ended()[0] == 3


def test_unavailable_docker_engine_does_not_end_the_service(service: Service) -> None:
    service.systemd.recv(4096)
    (service.folder / "away").touch()
    until(lambda: len(service.calls("wait")) > 2)
    assert service.process.poll() is None
    (service.folder / "away").unlink()
    (service.folder / "end").write_text("0")
    assert service.ended()[0] == 0


def test_missing_container_exits_with_its_own_code(service: Service) -> None:
    service.systemd.recv(4096)
    (service.folder / "forgotten").touch()
    (service.folder / "end").write_text("0")
    assert service.ended()[0] == container_supervisor.GONE
