"""Run apt and dpkg without prompts, and wait until no other program uses them.

A new server is often still busy when it is first reached: cloud-init installs packages, unattended-upgrades
updates them. `Settled` waits for both and reports what it waits for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyinfra.api import StringCommand
from pyinfra.connectors.util import CommandOutput, OutputLine

from deploys.ops.programs import program
from deploys.ops.run_state import ReportWaiting, run_state
from deploys.ops.shell import assignments, script

LOCKS = (
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/lock",
    "/var/lib/apt/lists/lock",
    "/var/cache/apt/archives/lock",
    "/run/unattended-upgrades.lock",
)
"""Files that apt, dpkg and unattended-upgrades lock with fcntl(2) while they work."""
DEADLINE_S = 900
"""How long another program may keep apt or cloud-init busy before the operation fails."""
PAUSE_S = 2.0
REPEAT_S = 30.0
"""How often a wait for the same program is reported again."""

_BUSY = program("deploys/ops/debian/scripts/busy.sh")


@dataclass(frozen=True, slots=True)
class Busy:
    """A reason why apt is blocked: cloud-init with its `status`, or a process that holds a lock."""

    status: str = ""
    pid: int = 0
    name: str = ""
    lock: str = ""

    @classmethod
    def read(cls, output: str) -> Busy | None:
        """Parse the output of the probe; return `None` when apt is free."""
        kind, _, rest = output.strip().partition(" ")
        if kind == "cloud-init":
            return cls(status=rest)
        if kind == "lock":
            pid, _, named = rest.partition(" ")
            name, _, lock = named.rpartition(" ")
            return cls(pid=int(pid), name=name, lock=lock)
        return None

    def __str__(self) -> str:
        """Return a description for messages."""
        if self.status:
            return f"cloud-init to finish (status: {self.status})"
        return f"{self.name or 'a process'} (pid {self.pid}), which holds {self.lock}"

    @property
    def advice(self) -> str:
        """Return what to do when the wait times out."""
        if self.status:
            return "see what it does (`cloud-init status --long`), then run again"
        return f"see what it does (`ps -fp {self.pid}`), then run again"


def probe() -> str:
    """Return the script that prints what blocks apt, or nothing; see `Busy.read`."""
    return assignments(locks=" ".join(LOCKS)) + _BUSY


def values(host: Any) -> dict[str, str]:
    """Return the shell variables of `apt.sh`; `apt_options` of the pyinfra `host` are options of apt-get."""
    return {"locks": " ".join(LOCKS), "options": host.data.get("apt_options") or ""}


def wait(
    ask: Callable[[], Busy | None],
    report: ReportWaiting | None,
    *,
    deadline: float = DEADLINE_S,
    pause: float = PAUSE_S,
) -> Busy | None:
    """Poll until apt is free, for at most `deadline` seconds; return what still blocks it then, or `None`.

    `report` is called at once, when the reason for the wait changes, and every `REPEAT_S` seconds.
    """
    started = time.monotonic()
    reported, reported_at = "", started
    while (busy := ask()) is not None:
        now = time.monotonic()
        if now - started >= deadline:
            return busy
        if report and (str(busy) != reported or now - reported_at >= REPEAT_S):
            report(f"waiting for {busy}, {now - started:.0f} s so far")
            reported, reported_at = str(busy), now
        time.sleep(pause)
    return None


class Settled(StringCommand):  # type: ignore[misc]
    """Wait until cloud-init has ended and no process holds a lock of apt; fail after `DEADLINE_S` seconds."""

    def __init__(self) -> None:
        super().__init__("wait until apt is free")

    def execute(self, state: Any, host: Any, connector_arguments: Any) -> tuple[bool, CommandOutput]:
        """Poll with short commands, so that the connection is not considered dead."""

        def ask() -> Busy | None:
            succeeded, output = host.run_shell_command(script(probe()), **connector_arguments)
            return Busy.read(output.stdout) if succeeded else None

        busy = wait(ask, run_state(host).report_waiting)
        if busy is None:
            return True, CommandOutput([])
        lines = (
            f"apt is still in use after {DEADLINE_S // 60} minutes: waited for {busy}",
            f"hint: {busy.advice}",
        )
        return False, CommandOutput([OutputLine("stderr", line) for line in lines])
