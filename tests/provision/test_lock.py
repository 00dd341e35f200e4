"""The lock: the real script with the real flock, and what a run says when it is taken."""

from __future__ import annotations

import io
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from paramiko import SSHException

from inventory.errors import HostError, LockHeldError
from provision.lock import Holder, Locks, acquire_script

ANNA = Holder("anna@laptop", "up", "2026-11-22T10:00:00+00:00")
BO = Holder("bo@desk", "up", "2026-11-22T10:05:00+00:00")


def take(path: Path, holder: Holder) -> subprocess.Popen[str]:
    command = ["sh", "-c", acquire_script(holder, str(path))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_only_one_holds_it_and_the_other_learns_who(tmp_path: Path) -> None:
    file = tmp_path / "state" / "lock"
    first = take(file, ANNA)
    assert first_line(first) == "held"
    assert file.stat().st_mode & 0o777 == 0o600
    second = take(file, BO)
    told, _ = second.communicate()
    assert told.splitlines()[0] == "busy"
    assert Holder.from_line(told.splitlines()[1]) == ANNA
    first.communicate()
    third = take(file, BO)
    assert first_line(third) == "held"
    third.communicate()
    assert file.read_text() == ""


def test_a_killed_holder_leaves_it_free(tmp_path: Path) -> None:
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


def test_a_holder_with_quotes_in_its_name_stays_one_word(tmp_path: Path) -> None:
    odd = Holder("o'brien $(touch pwned)@laptop", 'up "x"', "now")
    process = take(tmp_path / "lock", odd)
    assert first_line(process) == "held"
    assert Holder.from_line((tmp_path / "lock").read_text()) == odd
    process.communicate()
    assert not Path("pwned").exists()


@pytest.mark.parametrize("line", ["", "{", "[]", '{"who": "x"}', "null"])
def test_an_unreadable_line_names_nobody(line: str) -> None:
    assert Holder.from_line(line) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_on_a_full_disk_it_is_held_without_a_name() -> None:
    # Opens like a file on a full disk, and refuses every byte.
    process = take(Path("/dev/full"), ANNA)
    assert first_line(process) == "held"
    process.communicate()


class Channel:
    """An SSH channel that answers with fixed text."""

    def __init__(self, answer: str, problem: str = "") -> None:
        self.answer, self.problem, self.closed = answer, problem, False

    def settimeout(self, _: float) -> None: ...

    def exec_command(self, _: str) -> None: ...

    def makefile(self, _: str) -> io.StringIO:
        return io.StringIO(self.answer)

    def makefile_stderr(self, _: str) -> io.StringIO:
        return io.StringIO(self.problem)

    def close(self) -> None:
        self.closed = True


class Hosts:
    def __init__(self, **channels: Channel) -> None:
        self.channels = channels
        self.reboot: dict[str, Callable[[], None]] = {}

    def when_connected_again(self, name: str, then: Callable[[], None]) -> None:
        self.reboot[name] = then

    def as_root(self, name: str, script: str) -> str:
        return script

    def open_channel(self, name: str) -> Any:
        return self.channels[name]


def test_every_busy_host_is_named_and_no_lock_is_kept() -> None:
    hosts = Hosts(a=Channel("held\n"), b=Channel(f"busy\n{ANNA.to_line()}\n"), c=Channel("busy\nnonsense\n"))
    with pytest.raises(LockHeldError) as caught, Locks(hosts, ["c", "b", "a"], "up"):
        pytest.fail("the block must not be entered")
    assert "b: locked by anna@laptop since 2026-11-22T10:00:00+00:00 (up)" in str(caught.value)
    assert "c: locked by another run" in str(caught.value)
    assert caught.value.exit_code == 5
    assert hosts.channels["a"].closed


def test_locks_end_with_the_block() -> None:
    hosts = Hosts(a=Channel("held\n"))
    with Locks(hosts, ["a"], "up"):
        assert not hosts.channels["a"].closed
    assert hosts.channels["a"].closed


def test_a_host_that_rebooted_within_the_run_is_locked_again() -> None:
    before, after = Channel("held\n"), Channel("held\n")
    hosts = Hosts(a=before)
    with Locks(hosts, ["a"], "up"):
        hosts.channels["a"] = after
        hosts.reboot["a"]()
        assert before.closed
        assert not after.closed
    assert after.closed


def test_another_run_that_was_faster_after_a_reboot_is_named() -> None:
    hosts = Hosts(a=Channel("held\n"))
    with Locks(hosts, ["a"], "up"):
        hosts.channels["a"] = Channel(f"busy\n{ANNA.to_line()}\n")
        with pytest.raises(LockHeldError, match="locked by anna@laptop"):
            hosts.reboot["a"]()
    assert hosts.channels["a"].closed


def test_a_host_that_cannot_lock_says_why() -> None:
    hosts = Hosts(a=Channel("", "mkdir: Read-only file system"))
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
def test_a_broken_connection_is_told_and_no_lock_is_kept(error: Exception, says: str) -> None:
    class Broken(Channel):
        def exec_command(self, _: str) -> None:
            raise error

    hosts = Hosts(a=Channel("held\n"), b=Broken(""))
    with pytest.raises(HostError, match=f"b: the lock .*{says}") as caught, Locks(hosts, ["a", "b"], "up"):
        pytest.fail("the block must not be entered")
    assert "nothing was changed" in caught.value.advice
    assert hosts.channels["a"].closed
    assert hosts.channels["b"].closed
