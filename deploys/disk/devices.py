"""The block devices of a host, and the choice of the data disk among them, which is pure.

Which disk may be formatted is decided here, and checked again by the script that formats: a disk on which
anything at all is found is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from deploys.ops.facts import Fact
from deploys.ops.programs import program
from deploys.ops.shell import assignments
from inventory.errors import ClawdError

LABEL = "clawd-data"
"""Label of our file system, and name of its partition once it is complete."""
BEGUN = "clawd-new"
"""Name of a partition that we created and have not finished formatting; it was never mounted."""
LEAST_SIZE = 320 << 20
# Devices that are not disks although Linux calls them so.
_NO_DISK = re.compile(r"/dev/(zram|ram|nbd|fd|loop|sr)\d")


@dataclass(frozen=True, slots=True)
class BlockDevice:
    """A block device as lsblk, wipefs and blkid see it.

    `tags` are those that blkid finds by probing (TYPE, UUID, LABEL, PTTYPE, PART_ENTRY_NAME, …), `signatures`
    those that wipefs would erase, `used_by` devices that the kernel builds on it, `empty` whether its first
    MiB is all zeros.
    """

    path: str
    kind: str
    size: int
    parent: str = ""
    read_only: bool = False
    removable: bool = False
    mounts: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()
    signatures: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Devices:
    """All block devices of a host, and the device to which the declared path resolves there."""

    all: tuple[BlockDevice, ...] = ()
    declared: str = ""

    def parts_of(self, disk: BlockDevice) -> tuple[BlockDevice, ...]:
        """Return the partitions of `disk`."""
        return tuple(device for device in self.all if device.parent == disk.path and device.kind == "part")


@dataclass(frozen=True, slots=True)
class DiskChoice:
    """The disk to use. `blank`: to be formatted; `begun`: formatting was interrupted; `ours`: has our data.

    `file_system` is its device, empty when `blank`; `uuid` and `kind` are those of the file system if `ours`.
    """

    state: Literal["blank", "begun", "ours"]
    disk: str
    size: int
    file_system: str = ""
    uuid: str = ""
    kind: str = ""


@dataclass(slots=True)
class _Findings:
    """The output of the probes of one device."""

    signatures: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    empty: bool = False


class DevicesFact(Fact):
    """The block devices of a host."""

    def command(self, device: str) -> str:
        """Return a script that prints lsblk's output, then the findings for each disk and partition."""
        return assignments(declared="" if device == "auto" else device) + _DEVICES

    @staticmethod
    def default() -> Devices:
        """Return no devices."""
        return Devices()

    def process(self, output: list[str]) -> Devices:
        """Turn the script's lines into `Devices`."""
        return parse(output)


_DEVICES = program("deploys/disk/scripts/devices.sh")


def parse(lines: Sequence[str]) -> Devices:
    """Parse the output of `DevicesFact`. A device without a node in /dev is left out."""
    declared = ""
    tree: list[Mapping[str, Any]] = []
    found: dict[str, _Findings] = {}
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "declared":
            declared = rest
        elif word == "tree":
            tree = json.loads(rest)["blockdevices"]
        elif word == "device":
            last = found[rest] = _Findings()
        elif word == "signature":
            last.signatures.append(rest.strip())
        elif word == "tag":
            key, _, value = rest.partition("=")
            last.tags[key] = value.replace("\\ ", " ")
        elif word == "empty":
            last.empty = True
    return Devices(tuple(_devices(tree, "", found)), declared)


def _devices(
    nodes: Sequence[Mapping[str, Any]], parent: str, found: Mapping[str, _Findings]
) -> Iterator[BlockDevice]:
    for node in nodes:
        path = node["path"]
        children = node.get("children", ())
        if path in found:
            yield BlockDevice(
                path,
                node["type"],
                int(node["size"] or 0),
                parent,
                bool(node["ro"]),
                bool(node["rm"]),
                tuple(mount for mount in node["mountpoints"] if mount),
                tuple(child["path"] for child in children if child["type"] != "part"),
                tuple(found[path].signatures),
                found[path].tags,
                found[path].empty,
            )
        yield from _devices(children, path, found)


def choose(devices: Devices, declared: str) -> DiskChoice:
    """Return the data disk: the `declared` one, or with `auto` ours, or else the only blank one.

    Raises `ClawdError`, which lists the disks found, when there is no such disk or more than one.
    """
    known = [choice for disk in _disks(devices) if (choice := _known(disk, devices))]
    if declared == "auto":
        return _only(known or [_blank(disk) for disk in _candidates(devices)], devices)
    disk = next((device for device in devices.all if device.path == devices.declared), None)
    if disk is None:
        raise ClawdError(f"there is no disk {declared}", advice=f"the host has {_listed(devices)}")
    if disk.kind == "part":
        raise ClawdError(
            f"{declared} is a partition of {disk.parent}", advice=f"declare the whole disk {disk.parent}"
        )
    if choice := _known(disk, devices):
        return choice
    if known:
        raise ClawdError(
            f"{declared} is not the data disk in use: that is {known[0].disk}",
            advice=f"declare {known[0].disk}, or take that disk off the host first",
        )
    if content := found_on(disk, devices):
        raise ClawdError(
            f"{declared} is not blank, so it is not touched: {'; '.join(content)}",
            advice=f"declare another disk; if nothing on it is needed, `wipefs --all {disk.path}` and clear "
            "its first MiB by hand",
        )
    if disk.size < LEAST_SIZE:
        raise ClawdError(f"{declared} has only {disk.size >> 20} MiB", advice="declare a larger disk")
    return _blank(disk)


def found_on(disk: BlockDevice, devices: Devices) -> tuple[str, ...]:
    """Return the findings because of which a disk is not blank, as text."""
    found = []
    if disk.mounts:
        found.append(f"in use as {', '.join(disk.mounts)}")
    if disk.used_by:
        found.append(f"used by {', '.join(disk.used_by)}")
    if kind := disk.tags.get("TYPE"):
        found.append(_content(disk, kind))
    if table := disk.tags.get("PTTYPE"):
        found.append(f"a partition table ({table})")
    found += [_part(part) for part in devices.parts_of(disk)]
    if disk.signatures and not found:
        found.append(f"signatures of {', '.join(sorted(set(disk.signatures)))}")
    if not disk.empty and not found:
        found.append("data in its first MiB, or it cannot be read")
    if disk.read_only:
        found.append("it is read-only")
    return tuple(found)


def _content(device: BlockDevice, kind: str) -> str:
    label = f" `{device.tags['LABEL']}`" if device.tags.get("LABEL") else ""
    words = {
        "LVM2_member": "a physical volume of LVM",
        "linux_raid_member": "a member of a RAID",
        "swap": "swap",
    }
    return words.get(kind, f"{kind}{label}")


def _part(part: BlockDevice) -> str:
    kind = part.tags.get("TYPE")
    mounted = f", mounted on {', '.join(part.mounts)}" if part.mounts else ""
    return f"{part.path} ({_content(part, kind) if kind else 'unformatted'}{mounted})"


def _disks(devices: Devices) -> tuple[BlockDevice, ...]:
    return tuple(device for device in devices.all if device.kind in ("disk", "loop"))


def _candidates(devices: Devices) -> tuple[BlockDevice, ...]:
    return tuple(
        disk
        for disk in _disks(devices)
        if not _NO_DISK.match(disk.path)
        and not disk.removable
        and disk.size >= LEAST_SIZE
        and not found_on(disk, devices)
    )


def _known(disk: BlockDevice, devices: Devices) -> DiskChoice | None:
    """Return the choice of a disk that is ours: by our label, or by the name of an unfinished partition."""
    parts = devices.parts_of(disk)
    for device in (disk, *parts):
        kind = device.tags.get("TYPE", "")
        named = device.tags.get("PART_ENTRY_NAME")
        if device.tags.get("LABEL") == LABEL and kind in ("ext4", "xfs") and named != BEGUN:
            return DiskChoice("ours", disk.path, disk.size, device.path, device.tags.get("UUID", ""), kind)
    if len(parts) == 1 and parts[0].tags.get("PART_ENTRY_NAME") == BEGUN and not parts[0].mounts:
        return DiskChoice("begun", disk.path, disk.size, parts[0].path)
    return None


def _blank(disk: BlockDevice) -> DiskChoice:
    return DiskChoice("blank", disk.path, disk.size)


def _only(choices: Sequence[DiskChoice], devices: Devices) -> DiskChoice:
    if len(choices) == 1:
        return choices[0]
    if not choices:
        raise ClawdError(
            "no disk is blank, and none has been a data disk before",
            advice=f"attach one, or declare a blank one as `disk.device`; the host has {_listed(devices)}",
        )
    paths = " and ".join(choice.disk for choice in choices)
    what = "blank" if choices[0].state == "blank" else "data disks of earlier runs"
    raise ClawdError(f"{paths} are {what}", advice="say which is meant: `disk.device: /dev/disk/by-id/…`")


def _listed(devices: Devices) -> str:
    disks = [disk for disk in _disks(devices) if not _NO_DISK.match(disk.path) and disk.size]
    found = (f"{disk.path} ({'; '.join(found_on(disk, devices)) or 'blank'})" for disk in disks)
    return ", ".join(found) or "no disk at all"
