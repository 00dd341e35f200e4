"""The lock: the real script with the real flock, and what a run says when it is taken."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
from paramiko import SSHException

from inventory.errors import HostError, LockHeldError
from provision.connection.lock import Holder, Locks, acquire_script

ANNA = Holder("anna@laptop", "up", "2026-11-22T10:00:00+00:00")
BO = Holder("bo@desk", "up", "2026-11-22T10:05:00+00:00")


def take(path: Path, holder: Holder) -> subprocess.Popen[str]:
    command = ["sh", "-c", acquire_script(holder, str(path))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_second_run_gets_the_holder_of_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "state" / "lock"
    first = take(file, ANNA)
    assert first_line(first) == "held"
    assert file.stat().st_mode & 0o777 == 0o600
    second = take(file, BO)
    output, _ = second.communicate()
    assert output.splitlines()[0] == "busy"
    assert Holder.from_line(output.splitlines()[1]) == ANNA
    first.communicate()
    third = take(file, BO)
    assert first_line(third) == "held"
    third.communicate()
    assert file.read_text() == ""


def test_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    first = take(file, ANNA)
    assert first_line(first) == "held"
    assert first.stdin
    first.send_signal(signal.SIGKILL)
    first.stdin.close()
    first.wait()
    second = take(file, BO)
    assert first_line(second) == "held"
    second.communicate()


def test_holder_name_with_quotes_is_not_interpreted_by_the_shell(tmp_path: Path) -> None:
    odd = Holder("o'brien $(touch pwned)@laptop", 'up "x"', "now")
    process = take(tmp_path / "lock", odd)
    assert first_line(process) == "held"
    assert Holder.from_line((tmp_path / "lock").read_text()) == odd
    process.communicate()
    assert not Path("pwned").exists()


@pytest.mark.parametrize("line", ["", "{", "[]", '{"who": "x"}', "null"])
def test_unreadable_holder_line_is_no_holder(line: str) -> None:
    assert Holder.from_line(line) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_lock_is_held_on_a_full_disk_without_a_holder_name() -> None:
    # Opens like a file on a full disk, and refuses every byte.
    process = take(Path("/dev/full"), ANNA)
    assert first_line(process) == "held"
    process.communicate()


class Process:
    """A program on a host that answers with fixed text."""

    def __init__(self, answer: str, problem: str = "") -> None:
        self.stdout, self.stderr = io.BytesIO(answer.encode()), io.BytesIO(problem.encode())
        self.closed, self.running = False, True
        self.heard: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.heard.append(data)

    def close(self) -> None:
        self.closed = True


class Hosts:
    def __init__(self, **processes: Process) -> None:
        self.processes = processes
        self.reboot: dict[str, Callable[[], None]] = {}
        self.check: Callable[[str], None] = lambda _: None

    def when_connected_again(self, name: str, then: Callable[[], None]) -> None:
        self.reboot[name] = then

    def before_operations(self, check: Callable[[str], None]) -> None:
        self.check = check

    def start_as_root(self, name: str, script: str) -> Any:
        return self.processes[name]


def test_every_locked_host_is_reported_and_no_lock_is_kept() -> None:
    hosts = Hosts(a=Process("held\n"), b=Process(f"busy\n{ANNA.to_line()}\n"), c=Process("busy\nnonsense\n"))
    with pytest.raises(LockHeldError) as caught, Locks(hosts, ["c", "b", "a"], "up"):
        pytest.fail("the block must not be entered")
    assert "b: locked by anna@laptop since 2026-11-22T10:00:00+00:00 (up)" in str(caught.value)
    assert "c: locked by another run" in str(caught.value)
    assert caught.value.exit_code == 5
    assert hosts.processes["a"].closed


def test_locks_are_released_at_the_end_of_the_block() -> None:
    hosts = Hosts(a=Process("held\n"))
    with Locks(hosts, ["a"], "up"):
        assert not hosts.processes["a"].closed
    assert hosts.processes["a"].closed


def test_host_rebooted_within_the_run_is_locked_again() -> None:
    before, after = Process("held\n"), Process("held\n")
    hosts = Hosts(a=before)
    with Locks(hosts, ["a"], "up"):
        hosts.processes["a"] = after
        hosts.reboot["a"]()
        assert before.closed
        assert not after.closed
    assert after.closed


def test_run_that_took_the_lock_after_a_reboot_is_reported() -> None:
    hosts = Hosts(a=Process("held\n"))
    with Locks(hosts, ["a"], "up"):
        hosts.processes["a"] = Process(f"busy\n{ANNA.to_line()}\n")
        with pytest.raises(LockHeldError, match="locked by anna@laptop"):
            hosts.reboot["a"]()
    assert hosts.processes["a"].closed


def test_failure_to_lock_is_reported_with_its_reason() -> None:
    hosts = Hosts(a=Process("", "mkdir: Read-only file system"))
    with pytest.raises(HostError, match="Read-only file system"), Locks(hosts, ["a"], "up"):
        pytest.fail("the block must not be entered")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (TimeoutError(), "did not answer in time"),
        (SSHException("Channel closed."), "Channel closed."),
        (EOFError(), "did not answer"),
        (ConnectionResetError("reset by peer"), "reset by peer"),
    ],
)
def test_lost_connection_is_reported_and_no_lock_is_kept(error: Exception, says: str) -> None:
    class Broken(Hosts):
        def start_as_root(self, name: str, script: str) -> Any:
            if name == "b":
                raise error
            return super().start_as_root(name, script)

    hosts = Broken(a=Process("held\n"))
    with (
        pytest.raises(HostError, match=f"b: cannot acquire the lock .*{says}") as caught,
        Locks(hosts, ["a", "b"], "up"),
    ):
        pytest.fail("the block must not be entered")
    assert "nothing was changed" in caught.value.advice
    assert hosts.processes["a"].closed


def test_lock_is_freed_when_its_run_sends_no_sign_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provision.connection.lock.KEPT_S", 1)
    silent, heard = take(tmp_path / "silent", ANNA), take(tmp_path / "heard", ANNA)
    assert (first_line(silent), first_line(heard)) == ("held", "held")
    assert heard.stdin
    for _ in range(8):
        time.sleep(0.3)
        heard.stdin.write(".")
        heard.stdin.flush()
    assert silent.wait(timeout=5) == 0
    assert heard.poll() is None
    later = take(tmp_path / "silent", BO)
    assert first_line(later) == "held"
    for process in (later, heard):
        process.communicate()


def test_run_keeps_its_locks_with_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.connection.lock.BEAT_S", 0.01)
    hosts = Hosts(a=Process("held\n"))
    with Locks(hosts, ["a"], "up"):
        gevent.sleep(0.1)
    assert len(hosts.processes["a"].heard) > 2


def test_lock_lost_during_sleep_is_acquired_again_before_an_operation() -> None:
    before, after = Process("held\n"), Process("held\n")
    hosts = Hosts(a=before)
    with Locks(hosts, ["a"], "up"):
        hosts.check("a")
        assert not before.closed
        before.running = False
        hosts.processes["a"] = after
        hosts.check("a")
        assert before.closed
        after.running = False
        hosts.processes["a"] = Process(f"busy\n{ANNA.to_line()}\n")
        with pytest.raises(LockHeldError, match="locked by anna@laptop"):
            hosts.check("a")


def test_lock_of_an_ended_run_of_this_machine_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provision.connection.lock._TRIED_AGAIN_S", 0)
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = replace(Holder.of_this_run("up"), process=ended.pid)
    answers = [Process(f"busy\n{mine.to_line()}\n"), Process(f"busy\n{mine.to_line()}\n"), Process("held\n")]

    class Freed(Hosts):
        def start_as_root(self, name: str, script: str) -> Any:
            return answers.pop(0)

    messages: list[str] = []
    with Locks(Freed(), ["a"], "up", messages.append):
        assert messages == ["a: waiting for the lock of a run that lost its connection"] * 2
    assert not answers


@pytest.mark.parametrize("process", [os.getpid(), 0, -1, 1 << 40])
def test_lock_of_a_running_process_is_not_waited_for(process: int) -> None:
    holder = replace(Holder.of_this_run("up"), process=process)
    line = Holder.from_line(holder.to_line())
    assert line is not None
    assert not line.is_over()
    assert not replace(holder, who="anna@elsewhere", process=1 << 22).is_over()
