from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from provision.sandbox import process
from provision.sandbox.hosts import supervisor
from provision.sandbox.process import ProcessIdentity


def start(folder: Path, script: str) -> ProcessIdentity:
    """A host that is only a shell script, in the folder as its working place."""
    boot = {"command": ["sh", "-c", f"cd {folder}; {script}"], "interface": "nosuchlink", "groups": []}
    (folder / "boot.json").write_text(json.dumps(boot))
    subprocess.run([sys.executable, supervisor.__file__, str(folder)], check=True, timeout=10)
    return ProcessIdentity(**json.loads((folder / "supervisor.json").read_text()))


def wait_for_end(supervisor: ProcessIdentity) -> None:
    deadline = time.monotonic() + 10
    while process.alive(supervisor):
        assert time.monotonic() < deadline, "the supervisor does not end"
        time.sleep(0.02)


def test_rebooting_host_is_started_again_and_powered_off_one_is_not(tmp_path: Path) -> None:
    supervisor = start(tmp_path, 'echo boot >> boots; [ "$(wc -l < boots)" = 3 ] || exit 133')
    wait_for_end(supervisor)
    assert (tmp_path / "boots").read_text() == "boot\nboot\nboot\n"


def test_supervisor_daemonizes_and_logs_the_console(tmp_path: Path) -> None:
    supervisor = start(tmp_path, "echo hello from inside; exec sleep 60")
    assert process.alive(supervisor)
    deadline = time.monotonic() + 10
    while "hello from inside" not in (tmp_path / "console.log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (tmp_path / "console.log").stat().st_mode & 0o077 == 0
    children = process.children(supervisor)
    process.end([supervisor, *children])


def test_supervisor_forwards_termination_to_its_host(tmp_path: Path) -> None:
    supervisor = start(
        tmp_path, "trap 'echo orderly > off; exit 0' TERM; touch up; while :; do sleep 0.05; done"
    )
    while not (tmp_path / "up").exists():
        time.sleep(0.02)
    subprocess.run(["kill", "-TERM", str(supervisor.pid)], check=True)
    wait_for_end(supervisor)
    assert (tmp_path / "off").read_text() == "orderly\n"
