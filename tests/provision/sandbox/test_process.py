from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from provision.sandbox import process
from provision.sandbox.process import ProcessIdentity


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "a marker"]) as running:
        yield running
        running.kill()


def identity(pid: int) -> ProcessIdentity:
    start = process.started(pid)
    assert start is not None
    return ProcessIdentity(pid, start)


def test_process_is_identified_by_pid_and_start_time(sleeper: subprocess.Popen[bytes]) -> None:
    ours = identity(sleeper.pid)
    assert process.alive(ours)
    assert not process.alive(ProcessIdentity(ours.pid, ours.started - 1))


def test_end_kills_only_the_identified_process(sleeper: subprocess.Popen[bytes]) -> None:
    ours = identity(sleeper.pid)
    process.end([ProcessIdentity(ours.pid, ours.started + 1)])
    assert process.alive(ours)
    process.end([ours])
    assert sleeper.wait() == -9


def test_zombie_is_not_alive(sleeper: subprocess.Popen[bytes]) -> None:
    ours = identity(sleeper.pid)
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not process.alive(ours)


def test_processes_are_found_by_their_arguments_and_parent(sleeper: subprocess.Popen[bytes]) -> None:
    found = process.with_command(lambda command: command[-1] == "a marker")
    assert found == (identity(sleeper.pid),)
    assert found[0] in process.children(identity(os.getpid()))


def test_start_time_is_parsed_with_brackets_and_spaces_in_the_name(tmp_path: Path) -> None:
    (tmp_path / "77").mkdir()
    fields = ["S", "5", *(str(number) for number in range(5, 22)), "4711", "0"]
    (tmp_path / "77" / "stat").write_text(f"77 (a) b (c) {' '.join(fields)}")
    assert process.started(77, tmp_path) == 4711
    assert process.started(78, tmp_path) is None


def test_inside_finds_processes_by_root_folder(tmp_path: Path) -> None:
    root, other, proc = tmp_path / "root", tmp_path / "other", tmp_path / "proc"
    fields = " ".join(["S", "1", *("0" for _ in range(17)), "100"])
    for pid, lives_in in ((10, root), (11, other), (12, root)):
        lives_in.mkdir(exist_ok=True)
        (proc / str(pid)).mkdir(parents=True)
        (proc / str(pid) / "stat").write_text(f"{pid} (x) {fields}")
        (proc / str(pid) / "root").symlink_to(lives_in)
    assert {found.pid for found in process.inside(root, proc)} == {10, 12}
    assert process.inside(tmp_path / "gone", proc) == ()
