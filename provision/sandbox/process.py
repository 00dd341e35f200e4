"""Identification of the sandbox's own processes, so that only these are ended.

A process is identified by its id and its start time (ids are reused), processes inside a host by their root
folder. Source: proc(5).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from inventory.errors import SandboxError

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process with unique identification. `started` is in clock ticks since boot."""

    pid: int
    started: int


def started(pid: int, proc: Path = PROC) -> int | None:
    """Return when `pid` was started, in ticks since boot; `None` when it has ended or is a zombie."""
    try:
        text = (proc / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name is in brackets and may itself contain spaces and brackets.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def alive(process: ProcessIdentity, proc: Path = PROC) -> bool:
    """Return whether exactly this process still runs."""
    return started(process.pid, proc) == process.started


def command_of(pid: int, proc: Path = PROC) -> list[str]:
    """Return the arguments of `pid`; empty when it has ended."""
    try:
        return (proc / str(pid) / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def running(proc: Path = PROC) -> Iterator[ProcessIdentity]:
    """Yield all processes of the machine."""
    for entry in proc.iterdir():
        if entry.name.isdigit():
            start = started(int(entry.name), proc)
            if start is not None:
                yield ProcessIdentity(int(entry.name), start)


def with_command(matches: Callable[[list[str]], bool], proc: Path = PROC) -> tuple[ProcessIdentity, ...]:
    """Return the processes whose arguments satisfy `matches`."""
    found = ((process, command_of(process.pid, proc)) for process in running(proc))
    return tuple(process for process, command in found if command and matches(command))


def wait_for_end(processes: Iterable[ProcessIdentity], patience: float) -> bool:
    """Wait until these processes have ended; return `False` when they still run after `patience` seconds."""
    waiting = list(processes)
    deadline = time.monotonic() + patience
    while waiting := [process for process in waiting if alive(process)]:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def inside(root: Path, proc: Path = PROC) -> tuple[ProcessIdentity, ...]:
    """Return the processes whose root folder is `root`: all processes inside that host."""
    try:
        wanted = root.stat()
    except FileNotFoundError:
        return ()
    return tuple(process for process in running(proc) if _lives_in(process.pid, wanted, proc))


def children(parent: ProcessIdentity, proc: Path = PROC) -> tuple[ProcessIdentity, ...]:
    """Return the direct child processes of `parent`."""
    return tuple(process for process in running(proc) if _parent(process.pid, proc) == parent.pid)


def _parent(pid: int, proc: Path) -> int | None:
    try:
        return int((proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return None


def _lives_in(pid: int, wanted: os.stat_result, proc: Path) -> bool:
    try:
        found = (proc / str(pid) / "root").stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


def end(processes: Iterable[ProcessIdentity], *, patience: float = 10.0) -> None:
    """Kill these processes and wait until they have ended.

    Raises `SandboxError` when one still runs after `patience` seconds.
    """
    ending = list(processes)
    for process in ending:
        if alive(process):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
    if not wait_for_end(ending, patience):
        pids = ", ".join(str(process.pid) for process in ending if alive(process))
        raise SandboxError(
            f"process {pids} of a sandbox host does not end",
            advice="it probably hangs in the kernel; reboot this machine",
        )
