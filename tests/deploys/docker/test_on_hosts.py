"""Docker on real hosts: installed by the plain `pyinfra` command, damaged, repaired, guarded, removed."""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

import pytest

from tests.hosts import Box, Host, boxes, in_every_run, on_hosts, together, until

pytestmark = on_hosts(seconds=600)

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


box = boxes("cldo", 91)


@pytest.fixture(scope="module")
def hosts(box: Box) -> dict[str, Host]:
    """Docker, applied twice; `before` is what was there at first."""
    made = {release: Host(box, box.named(release)) for release in box.releases}

    def prepare(host: Host) -> None:
        host.on(f"({LOOK}) > /root/before")
        assert "Service docker" in host.apply_twice(docker=DECLARED)
        host.on(WEB)

    together(made, prepare)
    return made


@pytest.fixture(params=in_every_run("bookworm"))
def host(request: pytest.FixtureRequest, hosts: dict[str, Host]) -> Host:
    return hosts[request.param]


def failing_checks(host: Host) -> set[str]:
    loaded = host.loaded(docker={"enabled": True}, firewall={"open": [{"port": OPENED}]})
    return host.failing_checks(loaded, "docker")


def test_checks_report_damage_and_up_repairs_it(host: Host) -> None:
    assert failing_checks(host) == set()
    host.on(
        """echo '{"live-restore": false}' > /etc/docker/daemon.json
        nft flush table inet clawd_docker; systemctl disable -q docker; systemctl restart docker
        nft delete table inet clawd_docker"""
    )
    assert failing_checks(host) == {
        "engine runs with what is on the disk",
        "engine starts at boot",
        "configuration as declared",
        "engine goes by its configuration",
        "guard in force",
    }
    assert host.apply(docker=DECLARED) == {
        "Guard before containers",
        "Write /etc/docker/daemon.json",
        "Service docker",
    }
    assert failing_checks(host) == set()


@pytest.mark.campaign
def test_configuration_that_stops_the_engine_is_rolled_back(host: Host) -> None:
    before = host.on("sha256sum /etc/docker/daemon.json")
    host.on("rm -rf /srv/file && echo > /srv/file")
    message = host.refused(docker={**DECLARED, "data_root": "/srv/file/docker"})
    assert "docker.service: does not start" in message
    assert "docker.service: the previous files were restored" in message
    assert host.on("sha256sum /etc/docker/daemon.json") == before
    assert host.on("docker info --format '{{.DockerRootDir}}'") == "/var/lib/docker"
    assert not host.apply(docker=DECLARED)
    assert failing_checks(host) == set()


def test_published_ports_are_reachable_from_outside_only_when_declared(host: Host) -> None:
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
        assert failing_checks(host) == {"nothing is published past the firewall"}
    finally:
        host.on("docker rm -f one two three >/dev/null; docker network rm inner >/dev/null")
    assert failing_checks(host) == set()


def test_containers_survive_a_restart_of_the_engine(host: Host) -> None:
    host.on(
        "docker run -d --name lasting web:1 /usr/bin/python3 -c 'import time; time.sleep(600)' >/dev/null"
    )
    pid = host.on("docker inspect -f '{{.State.Pid}}' lasting")
    host.on("systemctl restart docker")
    assert host.on("docker inspect -f '{{.State.Pid}} {{.State.Running}}' lasting") == f"{pid} true"
    host.on("docker rm -f lasting >/dev/null")


def test_removal_leaves_only_images_and_volumes(host: Host) -> None:
    host.on("docker volume create kept >/dev/null")
    host.on(
        "docker run -d --name left -v kept:/kept web:1 /usr/bin/python3 -c 'import time; time.sleep(600)'"
    )
    theirs = ("/etc/containerd/certs.d/theirs/hosts.toml", "/etc/docker/theirs.json")
    for path in theirs:
        host.on(f"mkdir -p {path.rpartition('/')[0]}; echo theirs > {path}")
    assert host.remove("docker")
    assert not host.remove("docker"), "removed again"
    added = host.on("find /etc/docker /etc/containerd ! -type d | sort")
    assert added == "\n".join(theirs), "of the administrator, and nothing else"
    host.on("rm -r /etc/docker /etc/containerd")
    host.on(f"({LOOK}) > /root/after")
    difference = host.on("diff /root/before /root/after || true").splitlines()
    assert [line for line in difference if line[0] in "<>"] == ["> file /var/lib/docker"]
    assert "lasting" not in host.on("ps ax")
    assert host.on("ps ax | grep -cE '[d]ockerd|[c]ontainerd|time.sleep[(]' || true") == "0"


@pytest.mark.campaign
def test_kept_images_and_volumes_are_used_again_and_purge_deletes_them(host: Host) -> None:
    host.apply(docker=DECLARED)
    host.on("docker volume create kept >/dev/null")
    host.remove("docker")
    host.apply(docker=DECLARED)
    assert host.on("docker volume ls -q; docker images --format '{{.Repository}}'") == "kept\nweb"
    host.remove("docker", purge=True)
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
