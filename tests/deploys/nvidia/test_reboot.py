"""A host that comes back within a run, with a scripted connection; and what is decided on it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deploys.nvidia import reboot
from deploys.nvidia.reboot import RebootCommand
from deploys.ops.run_state import run_state
from inventory.errors import LockHeldError
from tests.deploys.nvidia.presented import LINE


class Host:
    """Says another boot id after it was disconnected and connected to again."""

    def __init__(self, *again: Callable[[], None], needed: bool = True) -> None:
        self.connector_data: dict[str, Any] = {}
        run_state(self).after_reconnect.extend(again)
        self.connected, self.boots, self._needed = True, 1, needed

    def run_shell_command(self, *_: Any, **__: Any) -> tuple[bool, Any]:
        return True, SimpleNamespace(stdout=f"boot {self.boots}" if self._needed else "loaded")

    def disconnect(self) -> None:
        self.boots += 1

    def connect(self, *, raise_exceptions: bool) -> None:
        self.connected = raise_exceptions


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploys.nvidia.reboot.time.sleep", lambda _: None)


def test_connection_and_locks_are_restored_after_the_reboot() -> None:
    seen: list[int] = []
    host = Host(lambda: seen.append(host.boots))
    assert RebootCommand("").execute(None, host, {})[0]
    assert seen == [2]


def test_run_of_the_host_ends_when_its_lock_is_lost_during_the_reboot() -> None:
    def taken() -> None:
        raise LockHeldError("gpu1: locked by anna@laptop", advice="run the command again later")

    succeeded, output = RebootCommand("").execute(None, Host(taken), {})
    assert not succeeded
    assert output.stderr.splitlines()[0] == "gpu1: locked by anna@laptop"


def test_connection_is_kept_without_a_reboot() -> None:
    host = Host(lambda: pytest.fail("the connection is the old one"), needed=False)
    assert RebootCommand("").execute(None, host, {})[0]


def test_reboot_works_with_pyinfra_alone() -> None:
    assert RebootCommand("").execute(None, Host(), {})[0]


class Kernel:
    """A machine with driver 580.95.05 installed and `loaded` in its kernel; nothing loads by modprobe."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, loaded: str) -> None:
        self.folder = folder
        programs = {"dpkg-query": "echo installed 580.95.05-1", "modprobe": "exit 1", "systemd-run": "exit 0"}
        for name, text in programs.items():
            (folder / name).write_text(f"#!/bin/sh\n{text}\n")
            (folder / name).chmod(0o755)
        monkeypatch.setattr(reboot, "REBOOTING", str(folder / "state" / "rebooting"))
        monkeypatch.setattr(reboot, "REBOOTED", str(folder / "rebooted"))
        self.loads(loaded)

    def loads(self, version: str) -> None:
        kernel = self.folder / "proc/driver/nvidia/version"
        kernel.parent.mkdir(parents=True, exist_ok=True)
        kernel.write_text(LINE.format(version) if version else "")

    def run(self, body: str, reboot_how: str = "auto") -> subprocess.CompletedProcess[str]:
        command = str(reboot._script(body, str(self.folder), reboot_how))
        path = f"{self.folder}:{os.environ['PATH']}"
        return subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, check=False, env={"PATH": path}
        )

    def boots(self) -> None:
        """Boot: files on the disk are of the boot before, and /run is empty."""
        noted = Path(reboot.REBOOTING)
        if noted.exists():
            noted.write_text(noted.read_text().replace(BOOT, "another-boot"))
        Path(reboot.REBOOTED).unlink(missing_ok=True)


BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.parametrize("loaded", ["575.57.08", ""])
def test_host_is_not_rebooted_again_for_a_driver_that_did_not_load(
    loaded: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the run that rebooted it was there when it came back."""
    kernel = Kernel(tmp_path, monkeypatch, loaded)
    assert kernel.run(reboot._LOAD).returncode == 0, "a reboot may help"
    assert kernel.run(reboot._REBOOT_IF_NEEDED).stdout.strip() == BOOT
    assert kernel.run(reboot._LOAD).returncode == 0, "it is still the boot before"
    kernel.boots()
    for _ in range(2):
        completed = kernel.run(reboot._LOAD)
        assert completed.returncode == 1
        assert "it is not rebooted again" in completed.stderr
    kernel.boots()
    assert kernel.run(reboot._LOAD).returncode == 0, "it may have been fixed by hand"


def test_successful_reboot_allows_a_later_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(tmp_path, monkeypatch, "575.57.08")
    kernel.run(reboot._REBOOT_IF_NEEDED)
    kernel.boots()
    kernel.loads("580.95.05")
    assert kernel.run(reboot._REBOOTED).returncode == 0
    kernel.loads("590.44.01")
    assert kernel.run(reboot._LOAD).returncode == 0


@pytest.mark.parametrize(("how", "code"), [("ask", 1), ("never", 0)])
def test_host_is_not_rebooted_without_permission(
    how: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Kernel(tmp_path, monkeypatch, "575.57.08").run(reboot._LOAD, how)
    assert done.returncode == code
    assert ("reboot the host and run again" in done.stderr) is (how == "ask")
