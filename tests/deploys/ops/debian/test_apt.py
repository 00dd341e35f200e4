"""Waiting for other programs that use apt, and reporting which they are."""

from __future__ import annotations

import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from deploys.ops.debian import apt
from deploys.ops.debian.apt import Busy


@pytest.mark.parametrize(
    ("printed", "busy", "words"),
    [
        ("", None, ""),
        ("cloud-init running\n", Busy(status="running"), "cloud-init to finish (status: running)"),
        (
            "lock 812 unattended-upgr /var/lib/dpkg/lock-frontend\n",
            Busy(pid=812, name="unattended-upgr", lock="/var/lib/dpkg/lock-frontend"),
            "unattended-upgr (pid 812), which holds /var/lib/dpkg/lock-frontend",
        ),
        (
            "lock 7 (sd-pam) x /run/unattended-upgrades.lock",
            Busy(pid=7, name="(sd-pam) x", lock="/run/unattended-upgrades.lock"),
            "(sd-pam) x (pid 7), which holds /run/unattended-upgrades.lock",
        ),
        (
            "lock 7  /var/lib/dpkg/lock",
            Busy(pid=7, lock="/var/lib/dpkg/lock"),
            "a process (pid 7), which holds /var/lib/dpkg/lock",
        ),
    ],
)
def test_busy_apt_is_reported_with_its_process(printed: str, busy: Busy | None, words: str) -> None:
    assert Busy.read(printed) == busy
    assert busy is None or str(busy) == words


def asked(monkeypatch: pytest.MonkeyPatch, folder: Path, *, status: str = "", jobs: str = "") -> Busy | None:
    """What the probe says where these programs answer, and its locks are files of `folder`."""
    programs = {"systemctl": f"echo '{jobs}'"}
    if status:
        programs["cloud-init"] = f"echo 'status: {status}'"
    for name, text in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(apt, "LOCKS", (str(folder / "lock"), str(folder / "none")))
    environment = {**os.environ, "PATH": f"{folder}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-c", apt.probe()], capture_output=True, text=True, env=environment, check=True
    )
    return Busy.read(done.stdout)


@pytest.mark.parametrize(
    ("status", "jobs", "waits"),
    [
        ("running", "", True),
        ("done", "", False),
        ("error", "", False),
        ("disabled", "", False),
        ("not run", "1 cloud-final.service start waiting", True),
        ("not started", "1 cloud-init.target start waiting", True),
        ("not run", "", False),
        ("", "", False),
    ],
)
def test_wait_includes_cloud_init_that_runs_or_is_pending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str, jobs: str, waits: bool
) -> None:
    expected = Busy(status=status) if waits else None
    assert asked(monkeypatch, tmp_path, status=status, jobs=jobs) == expected


def test_holder_of_a_lock_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "lock").open("w") as file:
        assert asked(monkeypatch, tmp_path) is None, "a file that is only open is not locked"
        fcntl.lockf(file, fcntl.LOCK_EX)
        busy = asked(monkeypatch, tmp_path)
        assert busy is not None
        assert (busy.pid, busy.lock) == (os.getpid(), str(tmp_path / "lock"))
        assert busy.name == Path("/proc/self/comm").read_text().strip()
    assert asked(monkeypatch, tmp_path) is None


def test_wait_reports_what_it_waits_for_and_ends_with_it() -> None:
    answers = [Busy(status="running"), Busy(status="running"), Busy(pid=1, name="apt-get", lock="/l"), None]
    reported: list[str] = []
    assert apt.wait(lambda: answers.pop(0), reported.append, pause=0.01) is None
    assert [line.split(", 0 s")[0] for line in reported] == [
        "waiting for cloud-init to finish (status: running)",
        "waiting for apt-get (pid 1), which holds /l",
    ]


def test_wait_ends_at_its_deadline() -> None:
    busy = Busy(pid=1, name="apt-get", lock="/l")
    assert apt.wait(lambda: busy, None, deadline=0.05, pause=0.01) == busy
