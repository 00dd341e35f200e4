"""One run at a time on a host.

The lock is a kernel file lock (`flock`) held by a process on the host that lives as long as this run's
connection: when the laptop sleeps, crashes or is killed, the connection ends, the process with it, and the
lock is free. Nothing is left to clean up, so a lock is never stale. The file's text tells who holds it.
A host that reboots within a run frees it, too: it is taken again with the new connection.
"""

from __future__ import annotations

import getpass
import json
import platform
import shlex
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Protocol, Self

from paramiko import SSHException

from inventory.errors import HostError, LockHeldError

LOCK_FILE = "/var/lib/clawd/state/lock"
ANSWER_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lock, since when, and to do what."""

    who: str
    command: str
    since: str

    @classmethod
    def of_this_run(cls, command: str) -> Self:
        """The person and machine running this program, now."""
        who = f"{getpass.getuser()}@{platform.node()}"
        return cls(who, command, datetime.now(UTC).isoformat(timespec="seconds"))

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """The holder told by a lock file; `None` when it cannot be read."""
        try:
            told = json.loads(line)
            return cls(str(told["who"]), str(told["command"]), str(told["since"]))
        except (ValueError, KeyError, TypeError):
            return None


def acquire_script(holder: Holder, path: str = LOCK_FILE) -> str:
    """The shell script that takes the lock, says `held`, and keeps it until its input ends.

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
    cat >/dev/null
    : >{file}
else
    echo busy
    cat {file}
fi
"""


class Connections(Protocol):
    """What a lock needs of a session."""

    def as_root(self, name: str, script: str) -> str:
        """The command line that runs a script as root."""

    def open_channel(self, name: str) -> Any:
        """A new SSH session channel."""

    def when_connected_again(self, name: str, then: Callable[[], None]) -> None:
        """Has `then` called when a host was rebooted within the run and is connected to anew."""


class Locks:
    """Holds the lock of several hosts; a context manager.

    Raises `LockHeldError` naming every host that is busy and by whom; then none is kept.
    """

    def __init__(self, connections: Connections, hosts: Iterable[str], command: str) -> None:
        self._connections = connections
        self._hosts = tuple(hosts)
        self._holder = Holder.of_this_run(command)
        self._channels: dict[str, Any] = {}

    def __enter__(self) -> Self:
        # Always in the same order, so that two runs over the same hosts cannot hold half each for ever.
        try:
            busy = [message for name in sorted(self._hosts) if (message := self._acquire(name))]
        except HostError:
            self.release()
            raise
        if busy:
            self.release()
            raise LockHeldError(
                "\n".join(busy), advice="wait for that run to end, then run the command again"
            )
        for name in self._hosts:
            self._connections.when_connected_again(name, partial(self._take_again, name))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Frees every lock that is held."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def _take_again(self, name: str) -> None:
        """Takes the lock of a host that lost it with its connection. Raises when another run was faster."""
        if (lost := self._channels.pop(name, None)) is not None:
            lost.close()
        if busy := self._acquire(name):
            raise LockHeldError(
                busy, advice="it was taken while the host rebooted; run the command again later"
            )

    def _acquire(self, name: str) -> str | None:
        """Takes one host's lock; returns a message when it is busy."""
        try:
            return self._ask_for(name)
        except (OSError, EOFError, SSHException) as error:
            raise HostError(
                f"{name}: the lock {LOCK_FILE} could not be taken: "
                f"{str(error) or 'the host did not answer in time'}",
                advice="nothing was changed; check that the host answers (`ssh`), then run the command again",
            ) from error

    def _ask_for(self, name: str) -> str | None:
        channel = self._connections.open_channel(name)
        try:
            channel.settimeout(ANSWER_TIMEOUT_S)
            channel.exec_command(self._connections.as_root(name, acquire_script(self._holder)))
            answer = channel.makefile("r")
            word = answer.readline().strip()
            if word == "held":
                self._channels[name] = channel
                return None
            line = answer.readline()
            problem = "" if word == "busy" else channel.makefile_stderr("r").read().strip()
        finally:
            if name not in self._channels:
                channel.close()
        if word != "busy":
            raise HostError(
                f"{name}: the lock {LOCK_FILE} could not be taken: {problem or 'no answer'}",
                advice="check that root can write there (`df -h`, `mount`), then run the command again",
            )
        holder = Holder.from_line(line)
        if holder is None:
            return f"{name}: locked by another run"
        return f"{name}: locked by {holder.who} since {holder.since} ({holder.command})"
