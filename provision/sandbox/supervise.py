"""Keeps one host running: starts it, and starts it again when it reboots.

Run as a script of its own (`python supervise.py FOLDER`) that knows nothing but the standard
library, so that a host outlives the program that made it and does not depend on its folder.

`FOLDER/boot.json` says what to run; `FOLDER/supervisor.json` says who runs it. The script
returns as soon as the latter is written and goes on in the background.
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
"""The exit code by which systemd-nspawn says that the host wants to start again."""


def start_time(pid: int) -> int:
    """When `pid` was started, in clock ticks since boot (proc(5), field 22 of stat)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def into_background(folder: Path) -> None:
    """Leave our caller: the caller's process ends here, once the new one has written who it is."""
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
    """Let everything the host prints go to its own log, and nothing to our caller."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open(folder / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)


def enter(groups: list[str]) -> None:
    """Move the calling process into the host's own control groups.

    The host's process does so, not the supervisor: whoever is left over as a zombie keeps its
    groups from being removed.
    """
    for group in groups:
        Path(group, "cgroup.procs").write_text(str(os.getpid()))


def connect(interface: str, host: subprocess.Popen[bytes]) -> None:
    """Switch this machine's end of the host's cable on, as soon as it is there."""
    for _ in range(500):
        if Path("/sys/class/net", interface).exists():
            subprocess.run(["ip", "link", "set", interface, "up"], check=False)
            return
        if host.poll() is not None:
            return
        time.sleep(0.02)


def keep_running(command: list[str], interface: str, groups: list[str]) -> int:
    """Start the host again whenever it reboots; return the exit code of its last run."""
    while True:
        host = subprocess.Popen(command, preexec_fn=partial(enter, groups))
        # Asked to end, nspawn shuts the host down in order.
        signal.signal(signal.SIGTERM, partial(_pass_on, host))
        connect(interface, host)
        code = host.wait()
        if code != REBOOT:
            return code


def _pass_on(host: subprocess.Popen[bytes], *_: object) -> None:
    host.terminate()


def main(folder: Path) -> int:
    """Read what to run, go to the background, and run it."""
    boot = json.loads((folder / "boot.json").read_text())
    into_background(folder)
    return keep_running(boot["command"], boot["interface"], boot["groups"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
