"""The lock of a host, which allows one run at a time.

The lock is a kernel file lock (`flock`) held by a process on the host that lives as long as the connection of
the run. When the laptop sleeps, crashes or the program is killed, the connection and the process end and the
lock is released. If the network fails without closing the connection, the process ends after `KEPT_S` without
a heartbeat. Nothing has to be cleaned up, so a lock is never stale. The content of the file names the holder.
A reboot during a run also releases the lock: it is acquired again with the new connection or, if the laptop
slept, before the next operation.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

import gevent
from paramiko import SSHException

from deploys.ops.programs import program
from deploys.ops.shell import assignments
from inventory.errors import ClawdError, HostError, LockHeldError

LOCK_FILE = "/var/lib/clawd/state/lock"
ANSWER_TIMEOUT_S = 20
KEPT_S = 60
"""Seconds that the host keeps a lock after the last heartbeat of its run."""
BEAT_S = 10
_TRIED_AGAIN_S = 2


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a lock: user, command and time."""

    who: str
    command: str
    since: str
    process: int = 0
    """Process id on the holder's machine."""

    @classmethod
    def of_this_run(cls, command: str) -> Self:
        """Return the user and machine that run this program, now."""
        who = f"{getpass.getuser()}@{platform.node()}"
        return cls(who, command, datetime.now(UTC).isoformat(timespec="seconds"), os.getpid())

    def is_over(self) -> bool:
        """Return whether it is a run on this machine that has ended; its lock will be released soon."""
        if not self.process or not self.who.endswith(f"@{platform.node()}"):
            return False
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def to_line(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Return the holder from a lock file; `None` when the line is invalid."""
        try:
            data = json.loads(line)
            process = data.get("process", 0)
            return cls(
                str(data["who"]),
                str(data["command"]),
                str(data["since"]),
                process if isinstance(process, int) and 0 < process < 1 << 31 else 0,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def acquire_script(holder: Holder, path: str = LOCK_FILE) -> str:
    """Return the shell script that acquires the lock and holds it while it receives heartbeats.

    It prints `held`, or `busy` and the line of the holder when another process has the lock. On a full disk
    it acquires the lock without storing the holder, so that the run can report the full disk.
    """
    return assignments(file=path, holder=holder.to_line(), seconds=KEPT_S) + _ACQUIRE


_ACQUIRE = program("provision/connection/scripts/lock.sh")


class Connections(Protocol):
    """The part of a session that a lock needs."""

    def start_as_root(self, name: str, script: str) -> Any:
        """Start a script as root; return a `connection.link.RemoteProcess` with its standard input open."""

    def before_operations(self, check: Callable[[str], None]) -> None:
        """Call `check(host)` before every operation."""

    def when_connected_again(self, name: str, then: Callable[[], None]) -> None:
        """Call `then` after a host was rebooted during the run and connected again."""


class Locks:
    """The locks of several hosts; a context manager.

    Raises `LockHeldError` with all busy hosts and their holders; then no lock is kept. For the lock of a run
    on this machine that has ended it waits up to `KEPT_S`, and calls `report`.
    """

    def __init__(
        self,
        connections: Connections,
        hosts: Iterable[str],
        command: str,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._connections = connections
        self._hosts = tuple(hosts)
        self._holder = Holder.of_this_run(command)
        self._report = report
        self._processes: dict[str, Any] = {}
        self._beating: Any = None

    def __enter__(self) -> Self:
        # Always in the same order, so that two runs on the same hosts cannot deadlock.
        try:
            busy = [message for name in sorted(self._hosts) if (message := self._acquire(name))]
        except ClawdError:
            self.release()
            raise
        if busy:
            self.release()
            raise LockHeldError(
                "\n".join(busy), advice="wait for that run to end, then run the command again"
            )
        for name in self._hosts:
            self._connections.when_connected_again(name, partial(self._take_again, name))
        self._connections.before_operations(self._keep)
        self._beating = gevent.spawn(self._beat)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Release all locks."""
        if self._beating is not None:
            self._beating.kill()
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def _beat(self) -> None:
        while True:
            gevent.sleep(BEAT_S)
            for process in tuple(self._processes.values()):
                # Errors of the connection are reported by the operations that use it.
                with suppress(OSError, EOFError, SSHException):
                    process.write(b".")

    def _keep(self, name: str) -> None:
        """Acquire a host's lock again if it was lost, for example because this laptop slept."""
        if name in self._processes and not self._processes[name].running:
            self._take_again(name)

    def _take_again(self, name: str) -> None:
        """Acquire a lost lock again. Raises `LockHeldError` when another run has it now."""
        if (lost := self._processes.pop(name, None)) is not None:
            lost.close()
        if busy := self._acquire(name):
            raise LockHeldError(
                busy, advice="another run acquired it after this one had lost it; run the command again later"
            )

    def _acquire(self, name: str) -> str | None:
        """Acquire one host's lock; return a message when it is busy."""
        until = time.monotonic() + KEPT_S + BEAT_S
        try:
            while (holder := self._ask_for(name)) is not None:
                if not holder.is_over() or time.monotonic() > until:
                    return _busy(name, holder)
                self._report(f"{name}: waiting for the lock of a run that lost its connection")
                gevent.sleep(_TRIED_AGAIN_S)
        except (OSError, EOFError, SSHException) as error:
            raise HostError(
                f"{name}: cannot acquire the lock {LOCK_FILE}: "
                f"{str(error) or 'the host did not answer in time'}",
                advice="nothing was changed; check that the host answers (`ssh`), then run the command again",
            ) from error
        return None

    def _ask_for(self, name: str) -> Holder | None:
        """Try to acquire one host's lock; return its holder when it is busy."""
        process = self._connections.start_as_root(name, acquire_script(self._holder))
        try:
            with gevent.Timeout(ANSWER_TIMEOUT_S, TimeoutError()):
                word = process.stdout.readline().decode(errors="replace").strip()
                if word == "held":
                    self._processes[name] = process
                    return None
                line = process.stdout.readline().decode(errors="replace")
                problem = "" if word == "busy" else process.stderr.read().decode(errors="replace").strip()
        finally:
            if self._processes.get(name) is not process:
                process.close()
        if word != "busy":
            raise HostError(
                f"{name}: cannot acquire the lock {LOCK_FILE}: {problem or 'no answer'}",
                advice="check that root can write there (`df -h`, `mount`), then run the command again",
            )
        return Holder.from_line(line) or Holder("", "", "")


def _busy(name: str, holder: Holder) -> str:
    if not holder.who:
        return f"{name}: locked by another run"
    return f"{name}: locked by {holder.who} since {holder.since} ({holder.command})"
