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

# Of the lines of /proc/locks that have the file's inode, the processes that have the file open: an inode
# number is unique only within one file system. Lines with `->` are of processes that wait for the lock.
HOLDER = r"""
holder() {  # holder: `PID NAME FILE` of a process that holds one of $locks, or nothing
    for lock in $locks; do
        inode=$(stat -L -c %i "$lock" 2>/dev/null) || continue
        held='$2 != "->" { n = split($6, at, ":"); if (at[n] == inode) print $5 }'
        for pid in $(awk -v inode="$inode" "$held" /proc/locks 2>/dev/null); do
            for file in "/proc/$pid/fd/"*; do
                [ "$(readlink "$file")" = "$(readlink -f "$lock")" ] || continue
                echo "$pid $(cat "/proc/$pid/comm" 2>/dev/null) $lock"
                return
            done
        done
    done
}
"""

# `cloud-init status --wait` prints nothing until it ends; this checks for the same states. Before its first
# run it is waited for only while systemd has a job to start it: a masked one never starts.
_BUSY = (
    HOLDER
    + r"""
export LC_ALL=C
booting() {
    command -v cloud-init >/dev/null || return 0
    status=$(timeout 20 cloud-init status 2>/dev/null | sed -n 's/^status: //p')
    case $status in
        running) ;;
        "not run"|"not started") systemctl list-jobs --no-legend 2>/dev/null | grep -q cloud- || return 0 ;;
        *) return 0 ;;
    esac
    echo "cloud-init $status"
}
busy=$(booting)
if [ "$busy" ]; then echo "$busy"; exit; fi
found=$(holder)
[ ! "$found" ] || echo "lock $found"
"""
)

# Handles programs that take a lock between the wait and the command.
APT = (
    f'locks="{" ".join(LOCKS)}"\n'
    + HOLDER
    + r"""
set -u
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
apt() {
    unlocked || return
    apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold $options "$@" </dev/null
}
unlocked() {
    tries=120
    while held=$(holder); [ "$held" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || { echo "apt is in use: process ${held% *} holds ${held##* }" >&2; return 1; }
        sleep 1
    done
}
if [ "$(ls -A /var/lib/dpkg/updates 2>/dev/null)" ]; then
    unlocked || exit 1
    dpkg --configure -a --force-confdef --force-confold </dev/null || exit 1
fi
"""
)


@dataclass(frozen=True, slots=True)
class Busy:
    """What blocks apt: cloud-init with its `status`, or a process that holds a lock."""

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
        """What to do when the wait times out."""
        if self.status:
            return "see what it does (`cloud-init status --long`), then run again"
        return f"see what it does (`ps -fp {self.pid}`), then run again"


def probe() -> str:
    """Return the script that prints what blocks apt, or nothing; see `Busy.read`."""
    return assignments(locks=" ".join(LOCKS)) + _BUSY


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
