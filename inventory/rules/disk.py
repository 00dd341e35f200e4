"""What must hold for the data disks of an inventory. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from inventory.finding import Finding, Rule
from inventory.mistakes import shown
from inventory.model import Inventory

_PATH = re.compile(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+")
# A mount over one of these, or below what the system itself fills, hides what a host needs.
SYSTEM_FOLDERS = (
    *("bin", "boot", "dev", "etc", "lib", "lib64", "proc", "root", "run", "sbin", "sys", "tmp", "usr"),
)
SHARED_FOLDERS = ("/home", "/media", "/mnt", "/opt", "/srv", "/var", "/var/lib", "/var/log")


def devices(inventory: Inventory) -> Iterator[Finding]:
    """A device is `auto` or a path below /dev that names the disk itself."""
    for name, host in inventory.hosts.items():
        if host.disk is None or host.disk.device == "auto":
            continue
        device = host.disk.device
        if not device.startswith("/dev/") or re.search(r"\s|/\.\.?(/|$)|/$", device):
            yield Finding(
                (("hosts", name, "disk", "device"),),
                f"{shown(device)} is not the path of a disk",
                "write `auto`, or a path such as /dev/disk/by-id/… as `ls -l /dev/disk/by-id` shows it",
            )


def mounts(inventory: Inventory) -> Iterator[Finding]:
    """A disk is mounted on a folder of its own."""
    for name, host in inventory.hosts.items():
        if host.disk is None:
            continue
        mount, path = host.disk.mount, ("hosts", name, "disk", "mount")
        if not _PATH.fullmatch(mount):
            yield Finding(
                (path,),
                f"{shown(mount)} is not a folder that a disk can be mounted on",
                "write a whole path of letters, digits, `.`, `_` and `-`, such as /srv/clawd",
            )
        elif (
            mount in SHARED_FOLDERS or mount.split("/")[1] in SYSTEM_FOLDERS or mount.startswith("/var/lib/")
        ):
            yield Finding(
                (path,),
                f"{mount} belongs to the system, and a disk mounted there would hide what it holds",
                "choose a folder that nothing else uses, such as /srv/clawd",
            )


def kept(inventory: Inventory) -> Iterator[Finding]:
    """Nothing is named twice among what a disk keeps."""
    for name, host in inventory.hosts.items():
        for index, item in enumerate(host.disk.keeps if host.disk else ()):
            if host.disk and item in host.disk.keeps[:index]:
                yield Finding(
                    (("hosts", name, "disk", "keeps", index),), f"`{item}` is listed twice", "name it once"
                )


RULES: tuple[Rule, ...] = (devices, mounts, kept)
