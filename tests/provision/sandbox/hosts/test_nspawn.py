from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from inventory.errors import SandboxError
from provision.sandbox import process
from provision.sandbox.hosts import nspawn, supervisor
from provision.sandbox.hosts.host import HostState
from provision.sandbox.hosts.nspawn import NspawnBackend
from provision.sandbox.layout import Layout


def test_boot_command_names_the_host_and_its_network(layout: Layout) -> None:
    command = nspawn.boot_command(layout, "bot2", Path("/r"), own_groups=False)
    assert {"--directory=/r", "--machine=clawdt-bot2", "--network-bridge=clawdt", "--register=no"} <= set(
        command
    )
    assert command[-1] == "--boot"
    assert "--keep-unit" not in command
    assert any(argument.startswith("--property=MemoryMax=") for argument in command)


def test_boot_command_with_own_cgroups_lets_the_host_write_them(layout: Layout) -> None:
    command = nspawn.boot_command(layout, "bot1", Path("/r"), own_groups=True)
    assert "--keep-unit" in command
    assert "--boot" not in command
    assert command[-3:-1] == ["/bin/sh", "-c"]
    assert command[-1].endswith("exec /lib/systemd/systemd")


def test_boot_command_grants_no_capability_over_the_machine(layout: Layout) -> None:
    command = nspawn.boot_command(layout, "bot1", Path("/r"), own_groups=True)
    granted = next(argument for argument in command if argument.startswith("--capability="))
    assert not {"CAP_SYS_TIME", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "all"} & set(
        granted.split("=")[1].split(",")
    )


def test_serves_below_matches_only_processes_of_the_folder() -> None:
    hosts = "/box/hosts"
    assert nspawn.serves_below(["systemd-nspawn", "--quiet", "--directory=/box/hosts/bot1/root"], hosts)
    assert nspawn.serves_below(["python", supervisor.__file__, "/box/hosts/bot1"], hosts)
    for stranger in (
        ["systemd-nspawn", "--directory=/var/lib/machines/bot1"],
        ["systemd-nspawn", "--directory=/box/hosts2/bot1/root"],
        ["vim", "/box/hosts/bot1/root"],
        ["python", "other.py", "/box/hosts/bot1"],
        [""],
    ):
        assert not nspawn.serves_below(stranger, hosts)


def test_host_without_processes_is_stopped(layout: Layout) -> None:
    (layout.host("bot1") / "root").mkdir(parents=True)
    assert NspawnBackend(layout).state("bot1") == (HostState.STOPPED, None)


def test_stale_supervisor_note_is_ignored(layout: Layout) -> None:
    folder = layout.host("bot1")
    (folder / "root").mkdir(parents=True)
    start = process.started(os.getpid())
    (folder / "supervisor.json").write_text(json.dumps({"pid": os.getpid(), "started": start}))
    assert NspawnBackend(layout).state("bot1") == (HostState.STOPPED, None)
    NspawnBackend(layout).stop("bot1")
    assert not (folder / "supervisor.json").exists()


def test_supervisor_without_its_host_is_broken_and_killed(layout: Layout) -> None:
    folder = layout.host("bot1")
    (folder / "root").mkdir(parents=True)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", str(folder)]) as alone:
        start = process.started(alone.pid)
        (folder / "supervisor.json").write_text(json.dumps({"pid": alone.pid, "started": start}))
        assert NspawnBackend(layout).state("bot1") == (HostState.BROKEN, None)
        NspawnBackend(layout).stop("bot1")
        assert alone.wait(5) == -9
    assert NspawnBackend(layout).state("bot1") == (HostState.STOPPED, None)


def test_damaged_supervisor_note_is_reported(layout: Layout) -> None:
    (layout.host("bot1") / "root").mkdir(parents=True)
    (layout.host("bot1") / "supervisor.json").write_text('{"pid": ')
    with pytest.raises(SandboxError, match=r"supervisor\.json is damaged"):
        NspawnBackend(layout).state("bot1")
