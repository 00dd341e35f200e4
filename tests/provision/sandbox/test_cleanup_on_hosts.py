"""A killed run leaves hosts; the next one that wants their network finds it free, and nothing of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision import sandbox
from provision.sandbox import Layout, claims, process
from provision.sandbox.hosts import cgroups
from provision.sandbox.hosts.nspawn import serves_below

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

KILLED = """
import os, signal, sys
from ipaddress import IPv4Network
from pathlib import Path
from provision import sandbox
folder, bridge, subnet, table = sys.argv[1:]
box = sandbox.Layout(Path(folder), bridge=bridge, subnet=IPv4Network(subnet), table=table)
sandbox.up(2, layout=box)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Layout]:
    number = 200 + os.getpid() % 50
    box = Layout(
        folder=tmp_path / "second" / ".sandbox",
        bridge=f"cl{number}",
        subnet=IPv4Network(f"10.213.{number}.0/24"),
        table=f"clawd_left_{number}",
    )
    yield box
    sandbox.down(layout=box, purge=True)


def seen(box: Layout) -> dict[str, list[str]]:
    """What this machine has of the sandboxes on this bridge."""
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    return {
        "interfaces": sorted(
            path.name for path in Path("/sys/class/net").iterdir() if box.bridge in path.name
        ),
        "tables": [table for table in tables.split() if table == box.table],
        "groups": sorted(group.name for group in cgroups.left(box.machine(""))),
    }


def test_hosts_of_a_killed_run_are_removed_by_the_next(box: Layout, tmp_path: Path) -> None:
    left = tmp_path / "first" / ".sandbox"
    before = seen(box)
    words = [str(left), box.bridge, str(box.subnet), box.table]
    killed = subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    assert killed.returncode == -signal.SIGKILL
    theirs = process.with_command(lambda command: serves_below(command, str(left / "hosts")))
    insides = [found for name in ("bot1", "bot2") for found in process.inside(left / "hosts" / name / "root")]
    assert theirs
    assert insides
    (host,) = sandbox.up(layout=box)
    assert host.state is sandbox.HostState.RUNNING
    assert sandbox.execute("bot1", "hostname", layout=box) == "bot1\n"
    assert not any(process.alive(found) for found in (*theirs, *insides))
    assert not left.exists()
    assert f"vb-{box.bridge}-bot2" not in seen(box)["interfaces"]
    sandbox.down(layout=box, purge=True)
    assert seen(box) == before


def test_hosts_of_a_killed_run_without_folder_are_removed(
    box: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What else this checkout has up is not for a test to remove.
    monkeypatch.setattr(claims, "PROJECT", tmp_path)
    left = tmp_path / "first" / ".sandbox"
    words = [str(left), box.bridge, str(box.subnet), box.table]
    subprocess.run([sys.executable, "-c", KILLED, *words], check=False)
    theirs = process.with_command(lambda command: serves_below(command, str(left / "hosts")))
    assert theirs
    subprocess.run(["rm", "-rf", "--one-file-system", str(left)], check=False)
    assert left in sandbox.clear()
    assert not any(process.alive(found) for found in theirs)
    assert seen(box) == {"interfaces": [], "tables": [], "groups": []}
    assert not left.exists()
