"""The sandbox where Docker is the tool, on a machine that a sandbox host plays: it comes and goes."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from provision import sandbox
from provision.sandbox import Layout

pytestmark = [
    pytest.mark.host,
    pytest.mark.campaign,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

ROOT = Path(__file__).resolve().parents[4]
INSIDE = """
import os, sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from provision import sandbox
from provision.sandbox.hosts.machine_settings import read_machine
from provision.sandbox.hosts.rootfs import image_of
box = sandbox.Layout(Path(sys.argv[1]), subnet=IPv4Network("10.214.5.0/24"))
"""
LOOK = """
docker ps --all --format '{{.Names}}'
docker network ls --format '{{.Name}}'
docker images --format '{{.Repository}}'
ls -d /run/clawd-sandbox 2>/dev/null || true
"""
Do = Callable[..., str]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    """A host with a Docker engine, without nspawn, and with this program's sandbox."""
    number = 200 + os.getpid() % 50
    box = Layout(
        folder=tmp_path_factory.mktemp("docker") / ".sandbox",
        bridge=f"cd{number}",
        subnet=IPv4Network(f"10.213.{number}.0/24"),
        table=f"clawd_docker_{number}",
    )
    sandbox.up(releases="bookworm", layout=box)
    install = (
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends"
    )
    sandbox.execute("bot1", f"{install} docker.io", timeout=300, layout=box)
    copied = ["tar", "-C", str(ROOT), "-c", "--exclude=__pycache__", "provision", "inventory"]
    send(box, copied, "mkdir -p /root/clawd /root/cache/sandbox && tar -C /root/clawd -x")
    yield box
    sandbox.down(layout=box, purge=True)


def send(machine: Layout, command: list[str], receive: str) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE) as sending:
        ssh = [*sandbox.ssh_command("bot1", user="root", layout=machine), receive]
        subprocess.run(ssh, stdin=sending.stdout, check=True)
    assert sending.returncode == 0


@pytest.fixture
def do(machine: Layout) -> Do:
    """Runs Python inside, with the layout `box` of a folder there."""

    def do(program: str, folder: str = "/root/a", *, then: str = "") -> str:
        python = f"CLAWD_CACHE=/root/cache python3 -c {shlex.quote(INSIDE + program)} {folder}"
        return sandbox.execute("bot1", f"cd /root/clawd && {python} {then}", timeout=300, layout=machine)

    return do


@pytest.fixture
def image(machine: Layout, do: Do) -> None:
    """The root filesystem that is cached here is what would be made there."""
    name = do("print(image_of('bookworm', read_machine(IPv4Address('10.214.5.1'))))").strip()
    tarball = machine.cache / f"{name}.tar.zst"
    if tarball.exists():
        send(machine, ["cat", str(tarball)], f"cat > /root/cache/sandbox/{name}.tar.zst")


@pytest.mark.usefixtures("image")
def test_docker_sandbox_changes_only_its_own_containers_and_networks(machine: Layout, do: Do) -> None:
    sandbox.execute("bot1", "docker network create strange", layout=machine)
    before = sandbox.execute("bot1", LOOK, layout=machine)
    started = do("print(*sandbox.up(layout=box, lasting=True))")
    assert "address='10.214.5.11'" in started
    assert "backend='docker'" in started
    assert do("print(*sandbox.up(layout=box))") == started
    waited = "systemctl is-system-running --wait || true; hostname"
    assert do(f"print(sandbox.execute('bot1', '{waited}', layout=box))").split() == ["running", "bot1"]
    between = sandbox.execute("bot1", LOOK, layout=machine).split()
    assert {"clawd0-bot1", "clawd0", "clawd-sandbox", "strange"} <= set(between)
    refused = "try: sandbox.up(layout=box)\nexcept sandbox.SandboxError as error: print(error)"
    assert "the sandbox in /root/a is running" in do(refused, "/root/b")
    do("sandbox.down(layout=box, purge=True)", "/root/b")
    assert sandbox.execute("bot1", LOOK, layout=machine).split() == between
    do("sandbox.down(layout=box, purge=True)")
    assert sandbox.execute("bot1", LOOK, layout=machine) == before


@pytest.mark.usefixtures("image")
def test_leftovers_of_a_killed_docker_sandbox_are_removed_without_its_folder(machine: Layout, do: Do) -> None:
    before = sandbox.execute("bot1", LOOK, layout=machine)
    do("sandbox.up(layout=box)\nos.kill(os.getpid(), 9)", then="; rm -r /root/a")
    assert "clawd0-bot1" in sandbox.execute("bot1", LOOK, layout=machine)
    answer = do("sandbox.up(layout=box)\nprint(sandbox.execute('bot1', 'hostname', layout=box))", "/root/b")
    assert answer.strip() == "bot1"
    do("sandbox.down(layout=box, purge=True)", "/root/b")
    assert sandbox.execute("bot1", LOOK, layout=machine) == before
