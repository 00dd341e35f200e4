"""One run at a time on a host.

The lock is a kernel file lock (`flock`) held by a process on the host that lives as long as this run's
connection: when the laptop sleeps, crashes or is killed, the connection ends, the process with it, and the
lock is free. Where the network goes away without ending the connection there, the process ends when
it has heard nothing from this run for `KEPT_S`. Nothing is left to clean up, so a lock is never stale. The
file's text names its holder. A host that reboots within a run frees it, too: it is taken again with the new
connection, and before the next operation where this computer slept.
"""

from __future__ import annotations

import getpass
import json
import os
import platform
import shlex
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Protocol, Self

import gevent
from paramiko import SSHException

from inventory.errors import ClawdError, HostError, LockHeldError

LOCK_FILE = "/var/lib/clawd/state/lock"
ANSWER_TIMEOUT_S = 20
KEPT_S = 60
"""Seconds that a lock is kept on the host after the last sign of life of its run."""
BEAT_S = 10
_TRIED_AGAIN_S = 2


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, since when, and to do what."""

    who: str
    command: str
    since: str
    process: int = 0
    """Process id on the holder's machine."""

    @classmethod
    def of_this_run(cls, command: str) -> Self:
        """The person and machine running this program, now."""
        who = f"{getpass.getuser()}@{platform.node()}"
        return cls(who, command, datetime.now(UTC).isoformat(timespec="seconds"), os.getpid())

    def is_over(self) -> bool:
        """Whether it was a run on this machine that has ended, and whose lock is about to be freed."""
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
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """The holder told by a lock file; `None` when it cannot be read."""
        try:
            told = json.loads(line)
            process = told.get("process", 0)
            return cls(
                str(told["who"]),
                str(told["command"]),
                str(told["since"]),
                process if isinstance(process, int) and 0 < process < 1 << 31 else 0,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


def acquire_script(holder: Holder, path: str = LOCK_FILE) -> str:
    """The shell script that takes the lock, says `held`, and keeps it until its input ends, or falls silent.

    On a full disk the lock is held without its holder's name, so that what is wrong there can be told.
    Says `busy` and the holder's line when another process has it.
    """
    file, folder = shlex.quote(path), shlex.quote(str(PurePosixPath(path).parent))
    return f"""set -eu
umask 077
mkdir -p {folder}
exec 9>>{file}
if flock -n 9; then
    printf '%s\\n' {shlex.quote(holder.to_line())} >{file} || true
    echo held
    while [ "$(timeout {KEPT_S} head -c 1 9>&-)" ]; do :; done
    : >{file}
else
    echo busy
    cat {file}
fi
"""


class Connections(Protocol):
    """What a lock needs of a session."""

    def start_as_root(self, name: str, script: str) -> Any:
        """Starts a script as root; a `provision.link.Process` with its standard input open."""

    def before_operations(self, check: Callable[[str], None]) -> None:
        """Has `check(host)` called before every operation."""

    def when_connected_again(self, name: str, then: Callable[[], None]) -> None:
        """Has `then` called when a host was rebooted within the run and is connected to anew."""


class Locks:
    """Holds the lock of several hosts; a context manager.

    Raises `LockHeldError` naming every host that is busy and by whom; then none is kept. The lock of a run of
    this machine that has ended is waited for, for `KEPT_S`; `report` is called then.
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
        # Always in the same order, so that two runs over the same hosts cannot hold half each for ever.
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
        """Frees every lock that is held."""
        if self._beating is not None:
            self._beating.kill()
        for process in self._processes.values():
            process.close()
        self._processes.clear()

    def _beat(self) -> None:
        while True:
            gevent.sleep(BEAT_S)
            for process in tuple(self._processes.values()):
                # What the connection raises is found by those who wait for an answer over it.
                with suppress(OSError, EOFError, SSHException):
                    process.write(b".")

    def _keep(self, name: str) -> None:
        """Sees that a host's lock is held still; it is not where this computer slept for long."""
        if name in self._processes and not self._processes[name].running:
            self._take_again(name)

    def _take_again(self, name: str) -> None:
        """Takes the lock of a host that lost it. Raises when another run was faster."""
        if (lost := self._processes.pop(name, None)) is not None:
            lost.close()
        if busy := self._acquire(name):
            raise LockHeldError(
                busy, advice="it was taken while this run could not hold it; run the command again later"
            )

    def _acquire(self, name: str) -> str | None:
        """Takes one host's lock; returns a message when it is busy."""
        until = time.monotonic() + KEPT_S + BEAT_S
        try:
            while (holder := self._ask_for(name)) is not None:
                if not holder.is_over() or time.monotonic() > until:
                    return _busy(name, holder)
                self._report(f"{name}: waiting for the lock of a run that lost its connection")
                gevent.sleep(_TRIED_AGAIN_S)
        except (OSError, EOFError, SSHException) as error:
            raise HostError(
                f"{name}: the lock {LOCK_FILE} could not be taken: "
                f"{str(error) or 'the host did not answer in time'}",
                advice="nothing was changed; check that the host answers (`ssh`), then run the command again",
            ) from error
        return None

    def _ask_for(self, name: str) -> Holder | None:
        """Takes one host's lock; returns its holder when it is busy."""
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
                f"{name}: the lock {LOCK_FILE} could not be taken: {problem or 'no answer'}",
                advice="check that root can write there (`df -h`, `mount`), then run the command again",
            )
        return Holder.from_line(line) or Holder("", "", "")


def _busy(name: str, holder: Holder) -> str:
    if not holder.who:
        return f"{name}: locked by another run"
    return f"{name}: locked by {holder.who} since {holder.since} ({holder.command})"
