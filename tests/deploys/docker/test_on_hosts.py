"""Docker on real hosts: installed by the plain `pyinfra` command, damaged, repaired, guarded, removed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest

from inventory.load import load
from provision import sandbox
from provision.assign import Selection, assign
from provision.sandbox import Layout
from provision.verify import verify

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="making hosts needs root"),
]

ROOT = Path(__file__).resolve().parents[3]
RELEASES = ("bookworm", "trixie")
HOSTS = ("bot1", "bot2")
OPENED = 9001
DECLARED: dict[str, Any] = {"openings": [{"port": OPENED}]}

LOOK = r"""
dpkg-query -W -f='package ${Package} ${db:Status-Status}\n'
getent passwd | cut -d: -f1 | sed 's/^/user /'; getent group | cut -d: -f1 | sed 's/^/group /'
systemctl list-unit-files --no-legend --no-pager | awk '{print "unit", $1}'
find /etc /opt /usr/local /var/lib/docker -xdev 2>/dev/null |
    grep -vE '^/var/lib/docker/|^/etc/(passwd|group|g?shadow|subuid|subgid)-?$|/etc/ld.so.cache' |
    sed 's/^/file /'
ls /sys/class/net | sed 's/^/network /'
"""

# An image with the host's own Python and little else.
WEB = """
python3 -I - <<'END' | docker import - web:1 >/dev/null
import glob, os, subprocess, sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|", dereference=True) as tar:
    programs = ["/usr/bin/python3", *glob.glob("/usr/lib/python3.*/lib-dynload/*.so")]
    shown = subprocess.run(["ldd", *programs], capture_output=True, text=True).stdout.split()
    for path in {"/usr/bin/python3", *(word for word in shown if word[0] == "/" and word[-1] != ":")}:
        tar.add(path)
    for folder in glob.glob("/usr/lib/python3.*"):
        tar.add(folder, filter=lambda item: None if "__pycache__" in item.name else item)
END
"""


@dataclass(frozen=True)
class Host:
    """A real host, and the folder of somebody who uses nothing but pyinfra."""

    name: str
    layout: Layout

    @property
    def address(self) -> str:
        return str(self.layout.address(self.name))

    def on(self, command: str) -> str:
        return sandbox.execute(self.name, command, layout=self.layout).strip()

    def run(self, operation: str, **data: Any) -> frozenset[str]:
        """What pyinfra changed there. Fails with its output when it fails."""
        folder = self.layout.folder.parent
        values = {
            "ssh_hostname": self.address,
            "ssh_user": "operator",
            "ssh_key": str(self.layout.key),
            "ssh_known_hosts_file": str(self.layout.known_hosts),
            "ssh_strict_host_key_checking": "yes",
            "_sudo": True,
            "supplies": {"state_folder": str(folder / ".clawd")},
            **data,
        }
        inventory = folder / f"{self.name}.py"
        inventory.write_text(f"hosts = [({self.name!r}, {values!r})]\n")
        done = subprocess.run(
            [sys.executable, "-m", "pyinfra", "--yes", str(inventory), f"deploys.docker.deploy.{operation}"],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=folder,
            timeout=300,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        rows = re.findall(r"^    \S[^|\n]* \| (.*?) +1 +(1|-) +(?:1|-) +(?:1|-) *$", output, re.MULTILINE)
        return frozenset(name for name, success in rows if success == "1")

    def apply(self, **settings: Any) -> frozenset[str]:
        return self.run("apply", docker={**DECLARED, **settings})

    def failing_checks(self) -> set[str]:
        """What `verify` finds wrong."""
        file = self.layout.folder.parent / f"{self.name}.yml"
        declared = {"address": self.address, "user": "operator", "ssh_key": str(self.layout.key)}
        file.write_text(
            json.dumps(
                {
                    "known_hosts": str(self.layout.known_hosts),
                    "hosts": {self.name: declared},
                    "models": {
                        "default": {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}
                    },
                    "docker": {"enabled": True},
                    "firewall": {"open": [{"port": OPENED}]},
                }
            )
        )
        loaded = load(file)
        found = verify(loaded, assign(loaded.inventory, Selection(components=("docker",))))
        assert found.checks
        return {check.name for check in found.failed}


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Host]]:
    """Docker on both hosts, applied twice; `before` is what was there at first."""
    folder = tmp_path_factory.mktemp("docker") / ".sandbox"
    box = Layout(folder, bridge="cldo", subnet=IPv4Network("10.213.91.0/24"), table="clawd_docker_test")
    try:
        sandbox.up(len(RELEASES), RELEASES, layout=box)
        made = {name: Host(name, box) for name in HOSTS}
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: host.on(f"({LOOK}) > /root/before"), made.values()))
            for changed in pool.map(Host.apply, made.values()):
                assert "Service docker" in changed
            for changed in pool.map(Host.apply, made.values()):
                assert not changed, f"changes again: {changed}"
            list(pool.map(lambda host: host.on(WEB), made.values()))
        yield made
    finally:
        sandbox.down(layout=box, purge=True)


AtOnce = Callable[[Callable[[Host], None]], None]


@pytest.fixture(scope="module")
def at_once(hosts: dict[str, Host]) -> AtOnce:
    """Runs something on both hosts at the same time; the first failure is raised."""

    def run(what: Callable[[Host], None]) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(what, hosts.values()))

    return run


def test_damage_is_named_and_repaired(at_once: AtOnce) -> None:
    at_once(damage_is_named_and_repaired)


def damage_is_named_and_repaired(host: Host) -> None:
    assert host.failing_checks() == set()
    host.on(
        """echo '{"live-restore": false}' > /etc/docker/daemon.json
        nft flush table inet clawd_docker; systemctl disable -q docker; systemctl restart docker
        nft delete table inet clawd_docker"""
    )
    assert host.failing_checks() == {
        "engine runs with what is on the disk",
        "engine starts at boot",
        "configuration as declared",
        "engine goes by its configuration",
        "guard in force",
    }
    assert host.apply() == {"Guard before containers", "Write /etc/docker/daemon.json", "Service docker"}
    assert host.failing_checks() == set()


@pytest.mark.campaign
def test_a_configuration_the_engine_does_not_start_with_is_put_back(at_once: AtOnce) -> None:
    at_once(a_configuration_the_engine_does_not_start_with_is_put_back)


def a_configuration_the_engine_does_not_start_with_is_put_back(host: Host) -> None:
    before = host.on("sha256sum /etc/docker/daemon.json")
    host.on("rm -rf /srv/file && echo > /srv/file")
    with pytest.raises(AssertionError) as failed:
        host.apply(data_root="/srv/file/docker")
    assert "docker.service: does not start" in str(failed.value)
    assert "docker.service: the files that it ran with before were put back" in str(failed.value)
    assert host.on("sha256sum /etc/docker/daemon.json") == before
    assert host.on("docker info --format '{{.DockerRootDir}}'") == "/var/lib/docker"
    assert host.apply() == set()
    assert host.failing_checks() == set()


def test_containers_publish_to_this_host_unless_the_firewall_says_otherwise(at_once: AtOnce) -> None:
    at_once(containers_publish_to_this_host_unless_the_firewall_says_otherwise)


def containers_publish_to_this_host_unless_the_firewall_says_otherwise(host: Host) -> None:
    serve = "web:1 /usr/bin/python3 -m http.server 80"
    host.on(
        f"""docker network create inner >/dev/null
        docker run -d --name one -p 9000:80 {serve} >/dev/null
        docker run -d --name two -p 0.0.0.0:{OPENED}:80 --network inner {serve} >/dev/null
        docker run -d --name three -p 0.0.0.0:9002:80 {serve} >/dev/null"""
    )
    try:
        fetch = "python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:{}/\", timeout=2)'"
        for port in (9000, OPENED, 9002):
            until(partial(answers, host, fetch.format(port)))
        assert reached(host.address, OPENED)
        assert not reached(host.address, 9000), "published on loopback by default"
        assert not reached(host.address, 9002), "published past the firewall"
        assert host.on("docker exec one /usr/bin/python3 -c 'import socket; print(1)'") == "1"
        assert host.failing_checks() == {"nothing is published past the firewall"}
    finally:
        host.on("docker rm -f one two three >/dev/null; docker network rm inner >/dev/null")
    assert host.failing_checks() == set()


def test_containers_outlive_the_engine(at_once: AtOnce) -> None:
    at_once(containers_outlive_the_engine)


def containers_outlive_the_engine(host: Host) -> None:
    host.on(
        "docker run -d --name lasting web:1 /usr/bin/python3 -c 'import time; time.sleep(600)' >/dev/null"
    )
    pid = host.on("docker inspect -f '{{.State.Pid}}' lasting")
    host.on("systemctl restart docker")
    assert host.on("docker inspect -f '{{.State.Pid}} {{.State.Running}}' lasting") == f"{pid} true"
    host.on("docker rm -f lasting >/dev/null")


def test_removed_with_nothing_left_but_images_and_volumes(at_once: AtOnce) -> None:
    at_once(removed_with_nothing_left_but_images_and_volumes)


def removed_with_nothing_left_but_images_and_volumes(host: Host) -> None:
    host.on("docker volume create kept >/dev/null")
    host.on(
        "docker run -d --name left -v kept:/kept web:1 /usr/bin/python3 -c 'import time; time.sleep(600)'"
    )
    host.run("remove")
    assert host.run("remove") == frozenset()
    host.on(f"({LOOK}) > /root/after")
    difference = host.on("diff /root/before /root/after || true").splitlines()
    assert [line for line in difference if line[0] in "<>"] == ["> file /var/lib/docker"]
    assert "lasting" not in host.on("ps ax")
    assert host.on("ps ax | grep -cE '[d]ockerd|[c]ontainerd|time.sleep[(]' || true") == "0"


@pytest.mark.campaign
def test_what_was_kept_is_there_again_and_goes_when_it_is_purged(at_once: AtOnce) -> None:
    at_once(what_was_kept_is_there_again_and_goes_when_it_is_purged)


def what_was_kept_is_there_again_and_goes_when_it_is_purged(host: Host) -> None:
    host.apply()
    assert host.on("docker volume ls -q; docker images --format '{{.Repository}}'") == "kept\nweb"
    host.run("remove", purge=True)
    host.on(f"({LOOK}) > /root/after")
    assert host.on("diff /root/before /root/after || true") == ""
    assert host.on("ls /var/lib/clawd/state") == "packages"


def answers(host: Host, command: str) -> bool:
    return not host.on(f"{command} >/dev/null 2>&1 || echo no")


def reached(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1.5).close()
    except OSError:
        return False
    return True


def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come about in time"
        time.sleep(0.3)
