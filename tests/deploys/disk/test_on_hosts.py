"""A data disk on real hosts: formatted, mounted, filled, damaged, repaired and released, by plain pyinfra.

The disk is a loop device of this machine (`attached`); ext4 on Debian 12, xfs on Debian 13.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

import pytest

from deploys.component import Component
from deploys.disk.settings import DiskSettings
from inventory.load import load
from provision import sandbox
from provision.sandbox import Layout
from provision.session import Assignment
from provision.verify import verify
from tests.deploys.disk.attached import Attached, works
from tests.deploys.test_on_hosts import Applied, Host

pytestmark = [
    pytest.mark.host,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not works(), reason="needs root, and loop devices for a disk to mount"),
]
RELEASES = ("bookworm", "trixie")
FILESYSTEMS = {"bot1": "ext4", "bot2": "xfs"}
# Stands for the database of a service that keeps writing to it.
SERVICE = """
[Service]
ExecStart=/bin/sh -c 'while :; do echo line >> /var/lib/clawd-bot/bot.db; sleep 0.1; done'
StateDirectory=clawd-bot
[Install]
WantedBy=multi-user.target
"""


@dataclass
class WithDisk(Host):
    """A host that has a data disk."""

    disk: Attached

    def carried(self, operations: str, **data: Any) -> Applied:
        """What came of `operations` by plain pyinfra."""
        process = self.start(operations, **data)
        output, _ = process.communicate(timeout=120)
        return Applied.read(process.returncode, output)


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    folder = tmp_path_factory.mktemp("disk") / ".sandbox"
    box = Layout(folder, bridge="cldk", subnet=IPv4Network("10.213.90.0/24"), table="clawd_disk_test")
    try:
        sandbox.up(len(RELEASES), RELEASES, layout=box)
        yield box
    finally:
        sandbox.down(layout=box, purge=True)


# One release in every test run, the other in campaigns.
HOSTS = (
    pytest.param("bot1", id="bookworm"),
    pytest.param("bot2", id="trixie", marks=pytest.mark.campaign),
)


@pytest.fixture(scope="module", params=HOSTS)
def host(request: pytest.FixtureRequest, box: Layout) -> Iterator[WithDisk]:
    name: str = request.param
    with Attached(box, name, box.folder.parent / f"{name}.img") as disk:
        host = WithDisk(name, box, box.folder.parent, disk)
        host.on(f"printf %s {shlex.quote(SERVICE)} > /etc/systemd/system/clawd-bot.service")
        host.on(
            "systemctl enable --now clawd-bot;"
            "mkdir -p /var/lib/clawd/models; echo GGUF > /var/lib/clawd/models/m"
        )
        host.on(f"dpkg-query -W -f '${{Package}}\\n' > /root/packages; ls {UNITS} > /root/units")
        yield host


UNITS = "/etc/systemd/system"
MODELS = {"folder": "/var/lib/clawd/models", "name": "models", "users": ["clawd-engine.service"]}
BOT = {"folder": "/var/lib/clawd-bot", "name": "bot", "users": ["clawd-bot.service"]}


def declared(host: WithDisk) -> dict[str, Any]:
    return {"device": host.disk.path, "filesystem": FILESYSTEMS[host.name], "places": [MODELS, BOT]}


def removed(host: WithDisk, **data: Any) -> Applied:
    return host.carried("deploys.disk.deploy.remove", **data)


def failing_checks(host: WithDisk) -> set[str]:
    file = host.folder / f"{host.name}.yml"
    one = {"address": host.address, "user": "operator", "ssh_key": str(host.layout.key)}
    model = {"engine": "openai-compatible", "endpoint": "http://127.0.0.1:1/v1"}
    known = str(host.layout.known_hosts)
    file.write_text(
        json.dumps({"known_hosts": known, "hosts": {host.name: one}, "models": {"default": model}})
    )
    settings = DiskSettings.model_validate(declared(host))
    found = verify(load(file), {host.name: [Assignment(Component("disk", ""), settings)]})
    assert found.checks
    return {check.name for check in found.failed}


def test_a_service_moves_to_a_new_disk_with_all_it_wrote(host: WithDisk) -> None:
    first = host.apply("disk", **declared(host))
    assert first.succeeded, first.output
    assert f"Format {host.disk.path}" in first.changed
    second = host.apply("disk", **declared(host))
    assert second.succeeded, second.output
    assert second.changed == frozenset()
    assert failing_checks(host) == set()
    kind = FILESYSTEMS[host.name]
    assert host.on("findmnt -no FSTYPE --mountpoint /var/lib/clawd-bot") == kind
    assert host.on("cat /var/lib/clawd/models/m; systemctl is-active clawd-bot") == "GGUF\nactive"
    lines = int(host.on("grep -c '^line$' /srv/clawd/bot/bot.db"))
    assert int(host.on("sleep 0.5; grep -vc '^line$' /var/lib/clawd-bot/bot.db || true")) == 0
    assert int(host.on("grep -c '^line$' /srv/clawd/bot/bot.db")) > lines
    assert (
        host.on("ls -d /var/lib/clawd-bot* /var/lib/clawd/models*")
        == "/var/lib/clawd-bot\n/var/lib/clawd/models"
    )


def test_without_the_disk_a_service_does_not_begin_anew(host: WithDisk) -> None:
    host.on("systemctl stop clawd-bot srv-clawd.mount")
    lines = host.on("ls -A /var/lib/clawd-bot /srv/clawd | grep -v :")
    assert lines == ""
    host.disk.hide()
    host.on("! timeout 20 systemctl start clawd-bot")
    host.disk.show()
    assert host.on("ls -A /var/lib/clawd-bot") == ""
    host.on("systemctl start var-lib-clawd-models.mount clawd-bot && mountpoint /var/lib/clawd-bot")


def test_damage_is_named_and_repaired(host: WithDisk) -> None:
    host.on("systemctl stop clawd-bot 'var-lib-clawd\\x2dbot.mount' && systemctl disable srv-clawd.mount")
    assert failing_checks(host) == {"disk is mounted at boot", "folders lie on the disk"}
    run = host.apply("disk", **declared(host))
    assert run.changed == {"Mount /srv/clawd", "/var/lib/clawd-bot on the data disk"}, run.output
    assert failing_checks(host) == set()
    host.on("systemctl start clawd-bot")


def test_it_is_not_taken_from_a_service_that_needs_it(host: WithDisk) -> None:
    run = removed(host)
    assert not run.succeeded
    assert "clawd-bot.service keeps its data in /var/lib/clawd-bot" in run.output
    assert failing_checks(host) == set()


def test_removed_it_leaves_nothing_but_data_which_a_later_run_shows_again(host: WithDisk) -> None:
    host.on(
        "systemctl disable --now clawd-bot; rm /etc/systemd/system/clawd-bot.service; systemctl daemon-reload"
    )
    run = removed(host)
    assert run.succeeded, run.output
    assert removed(host).changed == frozenset()
    assert host.on("findmnt --list --noheadings --output TARGET | grep -E 'srv|clawd' || true") == ""
    assert host.on("ls -d /srv/clawd /var/lib/clawd-bot /var/lib/clawd/models 2>/dev/null || true") == ""
    left = host.on(
        f"ls {UNITS} | diff /root/units - || true;"
        "dpkg-query -W -f '${Package}\\n' | diff /root/packages - || true"
    )
    assert left.splitlines()[1:] == ["< clawd-bot.service"]
    again = host.apply("disk", **declared(host))
    assert again.succeeded, again.output
    assert f"Format {host.disk.path}" not in again.changed
    assert host.on("cat /var/lib/clawd/models/m; grep -c line /var/lib/clawd-bot/bot.db").startswith("GGUF\n")


def test_purged_the_data_go_too(host: WithDisk) -> None:
    assert removed(host, purge=True).succeeded
    assert host.apply("disk", **declared(host)).succeeded
    assert host.on("find /srv/clawd -type f") == ""
    assert removed(host, purge=True).succeeded


def test_components_whose_folders_lie_on_the_disk_are_removed_before_it(host: WithDisk) -> None:
    """A folder that the disk is mounted on cannot go until the disk does, and is no difference until then."""
    assert host.apply("disk", **declared(host)).succeeded
    host.on("echo GGUF > /var/lib/clawd/models/m; echo line > /var/lib/clawd-bot/bot.db")
    for component, folder, purge in (
        ("model", "/var/lib/clawd/models", False),
        ("runtime", "/var/lib/clawd-bot", True),
    ):
        removal = f"deploys.{component}.deploy.remove"
        first = host.carried(removal, purge=purge)
        assert first.succeeded, first.output
        assert f"Remove {folder}" in first.changed
        second = host.carried(removal, purge=purge)
        assert second.succeeded, second.output
        assert second.changed == frozenset()
        assert host.on(f"mountpoint -q {folder} && ls -A {folder}") == ""
    assert removed(host).succeeded
    assert host.on("ls -d /srv/clawd /var/lib/clawd-bot /var/lib/clawd/models 2>/dev/null || true") == ""


def test_a_disk_with_another_file_system_is_refused(host: WithDisk) -> None:
    disk = host.disk.path
    host.on(
        f"apt-get install -qq e2fsprogs >/dev/null 2>&1; partx --delete {disk};"
        f"wipefs -qa {disk}; mkfs.ext4 -qF -L photos {disk}"
    )
    run = host.apply("disk", **declared(host))
    assert not run.succeeded
    assert f"{disk} is not blank, so it is not touched: ext4 `photos`" in run.output
    assert host.on(f"blkid -p -s LABEL -o value {disk}") == "photos"
