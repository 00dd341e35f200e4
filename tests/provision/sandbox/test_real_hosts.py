"""The sandbox as it is used: real hosts, next to a sandbox that may be up already."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision import sandbox
from provision.sandbox import Layout, process
from provision.sandbox.hosts.host import HostState
from provision.sandbox.hosts.nspawn import serves_below
from tests.hosts import on_hosts

pytestmark = on_hosts(seconds=300)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    # Its own names and network, so that several test runs can run at once.
    number = 200 + os.getpid() % 50
    box = Layout(
        folder=tmp_path_factory.mktemp("box") / ".sandbox",
        bridge=f"ct{number}",
        subnet=IPv4Network(f"10.213.{number}.0/24"),
        table=f"clawd_sandbox_{number}",
    )
    yield box
    sandbox.down(layout=box, purge=True)


def ours(box: Layout) -> tuple[process.ProcessIdentity, ...]:
    return process.with_command(lambda command: serves_below(command, str(box.hosts)))


def boot_id(name: str, box: Layout) -> str:
    return sandbox.execute(name, "cat /proc/sys/kernel/random/boot_id", layout=box)


def wait_for_another_boot(name: str, before: str, box: Layout) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if boot_id(name, box) != before:
                return
        except sandbox.SandboxError:
            time.sleep(0.2)
    pytest.fail(f"{name} did not come back")


@pytest.mark.parametrize(("name", "version"), [("bot1", "12"), ("bot2", "13")])
def test_sandbox_host_runs_debian_with_systemd_ssh_and_apt(name: str, version: str, box: Layout) -> None:
    sandbox.up(2, ("bookworm", "trixie"), layout=box)
    assert sandbox.execute(name, "systemctl is-system-running --wait", layout=box) == "running\n"
    assert (
        sandbox.execute(name, "hostname; . /etc/os-release; echo $VERSION_ID", layout=box)
        == f"{name}\n{version}\n"
    )
    sudo = [*sandbox.ssh_command(name, layout=box), "whoami; sudo -n whoami"]
    assert subprocess.run(sudo, capture_output=True, text=True, check=True).stdout == "operator\nroot\n"
    sandbox.execute(name, "apt-get update -q && apt-get install -qy nftables", layout=box, timeout=120)
    sandbox.execute(name, "nft add table inet probe && nft delete table inet probe", layout=box)


def test_memory_limit_of_a_service_is_enforced(box: Layout) -> None:
    greedy = "python3 -c \"print(len(b'x' * (200 << 20)) >> 20)\""
    sandbox.up(layout=box)
    assert sandbox.execute("bot1", f"systemd-run --wait --pipe -q {greedy}", layout=box) == "200\n"
    with pytest.raises(sandbox.SandboxError):
        sandbox.execute("bot1", f"systemd-run --wait --pipe -q -p MemoryMax=50M {greedy}", layout=box)


def test_second_sandbox_up_changes_nothing(box: Layout) -> None:
    first = sandbox.up(layout=box)
    before = boot_id("bot1", box)

    assert sandbox.up(layout=box) == first
    assert boot_id("bot1", box) == before


def test_sandbox_host_returns_after_a_reboot(box: Layout) -> None:
    (host,) = sandbox.up(layout=box)
    before = boot_id("bot1", box)
    sandbox.execute("bot1", "echo kept > /root/kept; systemctl --no-block reboot", layout=box)
    wait_for_another_boot("bot1", before, box)
    assert sandbox.execute("bot1", "cat /root/kept", layout=box) == "kept\n"
    assert sandbox.status(layout=box)[0].pid == host.pid


def test_sandbox_hosts_survive_the_process_that_created_them(box: Layout) -> None:
    (host,) = sandbox.up(layout=box)
    assert host.pid is not None
    assert os.getsid(host.pid) == host.pid != os.getsid(0)


@pytest.mark.parametrize("victim", ["supervisor", "nspawn", "both"])
def test_partly_killed_host_is_detected_and_repaired(victim: str, box: Layout) -> None:
    (host,) = sandbox.up(layout=box)
    assert host.pid is not None
    sandbox.execute("bot1", "echo kept > /root/kept; sync", layout=box)
    nspawns = [
        found
        for found in ours(box)
        if f"--directory={box.host('bot1')}/root" in process.command_of(found.pid)
    ]
    assert len(nspawns) == 1
    killed = {"supervisor": [host.pid], "nspawn": [nspawns[0].pid], "both": [host.pid, nspawns[0].pid]}[
        victim
    ]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    assert sandbox.status(layout=box)[0].state is HostState.BROKEN
    (again,) = sandbox.up(layout=box)
    assert again.state is HostState.RUNNING
    assert again.pid != host.pid
    assert sandbox.execute("bot1", "cat /root/kept", layout=box) == "kept\n"
    assert len(process.with_command(lambda command: f"--directory={box.host('bot1')}/root" in command)) == 1


def test_incomplete_host_is_recreated(box: Layout) -> None:
    sandbox.up(layout=box)
    (box.hosts / ".bot3.new" / "root").mkdir(parents=True)
    (box.host("bot3") / "root").mkdir(parents=True)
    hosts = sandbox.up(3, ("bookworm", "trixie", "bookworm"), layout=box)
    assert [host.state for host in hosts] == [HostState.RUNNING] * 3
    assert not (box.hosts / ".bot3.new").exists()


def test_host_of_another_release_is_recreated_and_others_stay(box: Layout) -> None:
    first, _ = sandbox.up(2, ("bookworm", "trixie"), layout=box)
    again, second = sandbox.up(2, "bookworm", layout=box)
    assert again == first
    assert second.release == "bookworm"
    assert sandbox.execute("bot2", ". /etc/os-release; echo $VERSION_CODENAME", layout=box) == "bookworm\n"


def test_hosts_reach_each_other_and_this_machine(box: Layout) -> None:
    sandbox.up(2, layout=box)
    reach = "import socket; print(socket.create_connection(('{}', 22), 5).recv(4).decode())"
    assert (
        sandbox.execute("bot1", f'python3 -c "{reach.format(box.address("bot2"))}"', layout=box) == "SSH-\n"
    )


def test_down_leaves_only_keys_and_images(box: Layout) -> None:
    sandbox.up(layout=box)
    secrets = {path.name: path.read_text() for path in box.secrets.iterdir()}
    insides = process.inside(box.host("bot1") / "root")
    assert insides
    groups = json.loads((box.host("bot1") / "boot.json").read_text())["groups"]
    assert "bot1" in sandbox.down(layout=box)
    assert ours(box) == ()
    assert not any(process.alive(found) for found in insides)
    assert not any(Path(group).exists() for group in groups)
    interfaces = [path.name for path in Path("/sys/class/net").iterdir()]
    assert not [name for name in interfaces if box.bridge in name]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    assert box.table not in tables.split()
    assert not box.hosts.exists()
    assert {path.name: path.read_text() for path in box.secrets.iterdir()} == secrets
    assert sandbox.status(layout=box) == ()
    assert sandbox.down(layout=box) == ()


def test_hosts_without_their_folder_are_killed(box: Layout) -> None:
    sandbox.up(layout=box)
    insides = process.inside(box.host("bot1") / "root")
    groups = json.loads((box.host("bot1") / "boot.json").read_text())["groups"]
    subprocess.run(["rm", "-rf", "--one-file-system", str(box.hosts)], check=False)
    sandbox.down(layout=box)
    assert ours(box) == ()
    assert not any(process.alive(found) for found in insides)
    assert not any(Path(group).exists() for group in groups)
