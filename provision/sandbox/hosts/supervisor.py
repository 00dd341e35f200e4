"""The supervisor of one host: it starts the host, and starts it again when it reboots.

It is a separate script (`python supervisor.py FOLDER`) that uses only the standard library, so that a host
outlives the program that created it and does not depend on its folder.

`FOLDER/boot.json` contains the command to run; `FOLDER/supervisor.json` identifies the supervisor. The script
returns as soon as the latter is written and continues in the background.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

REBOOT = 133
"""The exit code of systemd-nspawn for a host that reboots."""


def start_time(pid: int) -> int:
    """Return when `pid` was started, in clock ticks since boot (proc(5), field 22 of stat)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def into_background(folder: Path) -> None:
    """Continue in a background process; the calling process exits once `supervisor.json` is written."""
    reader, writer = os.pipe()
    if os.fork() != 0:
        os.close(writer)
        os._exit(0 if os.read(reader, 1) == b"." else 1)
    os.close(reader)
    os.setsid()
    record = {"pid": os.getpid(), "started": start_time(os.getpid())}
    half = folder / "supervisor.json.new"
    half.write_text(json.dumps(record))
    half.rename(folder / "supervisor.json")
    take_console(folder)
    os.write(writer, b".")
    os.close(writer)


def take_console(folder: Path) -> None:
    """Redirect the host's output to its log."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(folder / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def enter(groups: list[str]) -> None:
    """Move the calling process into the host's own control groups.

    The host's process does that, not the supervisor, because a group with a zombie cannot be removed.
    """
    for group in groups:
        Path(group, "cgroup.procs").write_text(str(os.getpid()))


def connect(interface: str, host: subprocess.Popen[bytes]) -> None:
    """Enable this machine's network interface to the host as soon as it exists."""
    for _ in range(500):
        if Path("/sys/class/net", interface).exists():
            subprocess.run(["ip", "link", "set", interface, "up"], check=False)
            return
        if host.poll() is not None:
            return
        time.sleep(0.02)


def keep_running(command: list[str], interface: str, groups: list[str]) -> int:
    """Start the host, again after each reboot; return the exit code of its last run."""
    while True:
        host = subprocess.Popen(command, preexec_fn=partial(enter, groups))  # noqa: PLW1509 - no threads
        # On SIGTERM nspawn shuts the host down cleanly.
        signal.signal(signal.SIGTERM, partial(_pass_on, host))
        connect(interface, host)
        code = host.wait()
        if code != REBOOT:
            return code


def _pass_on(host: subprocess.Popen[bytes], *_: object) -> None:
    host.terminate()


def main(folder: Path) -> int:
    """Read the command, continue in the background, and run it."""
    boot = json.loads((folder / "boot.json").read_text())
    into_background(folder)
    return keep_running(boot["command"], boot["interface"], boot["groups"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
