"""A data disk on real hosts: formatted, mounted, filled, damaged, repaired and released, by plain pyinfra.

The disk is a loop device of this machine (`attached`); ext4 on Debian 12, xfs on Debian 13.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploys.disk.settings import DiskSettings
from deploys.registry import BY_NAME
from provision.assignment import Assignment
from tests.deploys.disk.attached import Attached, works
from tests.hosts import Box, Host, boxes, calls, in_every_run, on_hosts

pytestmark = on_hosts(
    pytest.mark.skipif(not works(), reason="needs root, and loop devices for a disk to mount"), seconds=300
)
FILESYSTEMS = {"bookworm": "ext4", "trixie": "xfs"}
# Stands for the database of a service that keeps writing to it.
SERVICE = """
[Service]
ExecStart=/bin/sh -c 'while :; do echo line >> /var/lib/clawd-bot/bot.db; sleep 0.1; done'
StateDirectory=clawd-bot
[Install]
WantedBy=multi-user.target
"""


UNITS = "/etc/systemd/system"
MODELS = {"folder": "/var/lib/clawd/models", "name": "models", "users": ["clawd-engine.service"]}
BOT = {"folder": "/var/lib/clawd-bot", "name": "bot", "users": ["clawd-bot.service"]}

box = boxes("cldk", 90)


@dataclass(frozen=True)
class WithDisk(Host):
    """A host that has a data disk."""

    disk: Attached

    @property
    def settings(self) -> DiskSettings:
        values = {
            "device": self.disk.path, "filesystem": FILESYSTEMS[self.release], "places": [MODELS, BOT],
        }  # fmt: skip
        return DiskSettings.model_validate(values)

    def mount(self) -> frozenset[str]:
        return self.apply(disk=self.settings)

    def failing(self) -> set[str]:
        return self.failing_checks(self.loaded(), Assignment(BY_NAME["disk"], self.settings))


@pytest.fixture(scope="module", params=in_every_run("bookworm"))
def host(request: pytest.FixtureRequest, box: Box) -> Iterator[WithDisk]:
    name = box.named(request.param)
    with Attached(box.layout, name, box.folder / f"{name}.img") as disk:
        host = WithDisk(box, name, disk)
        host.on(f"printf %s {shlex.quote(SERVICE)} > /etc/systemd/system/clawd-bot.service")
        host.on(
            "systemctl enable --now clawd-bot;"
            "mkdir -p /var/lib/clawd/models; echo GGUF > /var/lib/clawd/models/m"
        )
        host.on(f"dpkg-query -W -f '${{Package}}\\n' > /root/packages; ls {UNITS} > /root/units")
        yield host


def test_service_data_is_moved_to_a_new_disk(host: WithDisk) -> None:
    assert f"Format {host.disk.path}" in host.apply_twice(disk=host.settings)
    assert host.failing() == set()
    kind = FILESYSTEMS[host.release]
    assert host.on("findmnt -no FSTYPE --mountpoint /var/lib/clawd-bot") == kind
    assert host.on("cat /var/lib/clawd/models/m; systemctl is-active clawd-bot") == "GGUF\nactive"
    lines = int(host.on("grep -c '^line$' /srv/clawd/bot/bot.db"))
    assert int(host.on("sleep 0.5; grep -vc '^line$' /var/lib/clawd-bot/bot.db || true")) == 0
    assert int(host.on("grep -c '^line$' /srv/clawd/bot/bot.db")) > lines
    assert (
        host.on("ls -d /var/lib/clawd-bot* /var/lib/clawd/models*")
        == "/var/lib/clawd-bot\n/var/lib/clawd/models"
    )


def test_service_does_not_start_with_empty_data_while_the_disk_is_missing(host: WithDisk) -> None:
    host.on("systemctl stop clawd-bot srv-clawd.mount")
    lines = host.on("ls -A /var/lib/clawd-bot /srv/clawd | grep -v :")
    assert lines == ""
    host.disk.hide()
    host.on("! timeout 20 systemctl start clawd-bot")
    host.disk.show()
    assert host.on("ls -A /var/lib/clawd-bot") == ""
    host.on("systemctl start var-lib-clawd-models.mount clawd-bot && mountpoint /var/lib/clawd-bot")


def test_checks_report_damage_and_up_repairs_it(host: WithDisk) -> None:
    host.on("systemctl stop clawd-bot 'var-lib-clawd\\x2dbot.mount' && systemctl disable srv-clawd.mount")
    assert host.failing() == {"disk is mounted at boot", "folders lie on the disk"}
    assert host.mount() == {"Mount /srv/clawd", "/var/lib/clawd-bot on the data disk"}
    assert host.failing() == set()
    host.on("systemctl start clawd-bot")


def test_removal_is_refused_while_a_service_uses_the_disk(host: WithDisk) -> None:
    tried = host.run(calls("remove", ["disk"]))
    assert not tried.succeeded
    assert "clawd-bot.service keeps its data in /var/lib/clawd-bot" in tried.output
    assert host.failing() == set()


def test_removal_leaves_only_data_and_reinstallation_mounts_it_again(host: WithDisk) -> None:
    host.on(
        "systemctl disable --now clawd-bot; rm /etc/systemd/system/clawd-bot.service; systemctl daemon-reload"
    )
    mounted = "findmnt --list --noheadings --output TARGET | grep -E 'srv|clawd' || true"
    assert "/srv/clawd" in host.on(mounted).split()
    assert host.remove("disk")
    assert not host.remove("disk"), "removed again"
    assert host.on(mounted) == ""
    assert host.on("ls -d /srv/clawd /var/lib/clawd-bot /var/lib/clawd/models 2>/dev/null || true") == ""
    left = host.on(
        f"ls {UNITS} | diff /root/units - || true;"
        "dpkg-query -W -f '${Package}\\n' | diff /root/packages - || true"
    )
    assert left.splitlines()[1:] == ["< clawd-bot.service"]
    assert f"Format {host.disk.path}" not in host.mount()
    assert host.on("cat /var/lib/clawd/models/m; grep -c line /var/lib/clawd-bot/bot.db").startswith("GGUF\n")


def test_purge_deletes_the_data(host: WithDisk) -> None:
    host.remove("disk", purge=True)
    host.mount()
    assert host.on("find /srv/clawd -type f") == ""
    host.remove("disk", purge=True)


def test_components_on_the_disk_are_removed_before_the_disk(host: WithDisk) -> None:
    """A folder that the disk is mounted on cannot go until the disk does, and is no difference until then."""
    host.mount()
    host.on("echo GGUF > /var/lib/clawd/models/m; echo line > /var/lib/clawd-bot/bot.db")
    for component, folder, purge, operation in (
        ("model", "/var/lib/clawd/models", False, "Remove /var/lib/clawd/models"),
        ("runtime", "/var/lib/clawd-bot", True, "Delete data: conversations"),
    ):
        assert operation in host.remove(component, purge=purge)
        assert not host.remove(component, purge=purge), "removed again"
        assert host.on(f"mountpoint -q {folder} && ls -A {folder}") == ""
    host.remove("disk")
    assert host.on("ls -d /srv/clawd /var/lib/clawd-bot /var/lib/clawd/models 2>/dev/null || true") == ""


def test_disk_with_another_file_system_is_refused(host: WithDisk) -> None:
    disk = host.disk.path
    host.on(
        f"apt-get install -qq e2fsprogs >/dev/null 2>&1; partx --delete {disk};"
        f"wipefs -qa {disk}; mkfs.ext4 -qF -L photos {disk}"
    )
    message = host.refused(disk=host.settings)
    assert f"{disk} is not blank, so it is not touched: ext4 `photos`" in message
    assert host.on(f"blkid -p -s LABEL -o value {disk}") == "photos"
