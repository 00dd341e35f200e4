"""Which disk is taken, and which never: from what lsblk, wipefs and blkid say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from deploys.disk.devices import BlockDevice, Devices, choose, found_on, parse
from inventory.errors import ClawdError

GB = 1 << 30
SYSTEM = BlockDevice(
    "/dev/vda", "disk", 40 * GB, signatures=("gpt", "PMBR"), tags={"PTTYPE": "gpt"}, mounts=()
)
ROOT = BlockDevice(
    "/dev/vda1", "part", 40 * GB, "/dev/vda", mounts=("/",), tags={"TYPE": "ext4", "LABEL": "root"}
)
BLANK = BlockDevice("/dev/vdb", "disk", 100 * GB, empty=True)
OURS = replace(BLANK, path="/dev/vdc", empty=False, tags={"PTTYPE": "gpt"}, signatures=("gpt",))
OURS_1 = BlockDevice(
    "/dev/vdc1",
    "part",
    100 * GB,
    "/dev/vdc",
    tags={"TYPE": "xfs", "LABEL": "clawd-data", "UUID": "u-1", "PART_ENTRY_NAME": "clawd-data"},
)
BEGUN_1 = replace(OURS_1, tags={"PART_ENTRY_NAME": "clawd-new"})


def host(*devices: BlockDevice, declared: str = "") -> Devices:
    return Devices((SYSTEM, ROOT, *devices), declared)


@pytest.mark.parametrize(
    ("devices", "state", "file_system"),
    [
        ((BLANK,), "blank", ""),
        ((OURS, OURS_1), "ours", "/dev/vdc1"),
        ((OURS, OURS_1, BLANK), "ours", "/dev/vdc1"),
        ((OURS, BEGUN_1), "begun", "/dev/vdc1"),
        ((OURS, replace(OURS_1, tags={**OURS_1.tags, "PART_ENTRY_NAME": "clawd-new"})), "begun", "/dev/vdc1"),
        ((replace(OURS, tags={"TYPE": "ext4", "LABEL": "clawd-data", "UUID": "u-2"}),), "ours", "/dev/vdc"),
        ((BLANK, replace(BLANK, path="/dev/sdb", removable=True)), "blank", ""),
        ((BLANK, replace(BLANK, path="/dev/sdb", size=1 << 20)), "blank", ""),
        ((BLANK, replace(BLANK, path="/dev/zram0")), "blank", ""),
        ((BLANK, replace(BLANK, path="/dev/loop0", kind="loop")), "blank", ""),
        ((BLANK, replace(BLANK, path="/dev/sdb", used_by=("/dev/dm-0",))), "blank", ""),
    ],
)
def test_auto_chooses_the_only_suitable_disk(
    devices: tuple[BlockDevice, ...], state: str, file_system: str
) -> None:
    choice = choose(host(*devices), "auto")
    assert (choice.state, choice.file_system) == (state, file_system)
    assert choice.disk == ("/dev/vdb" if state == "blank" else "/dev/vdc")


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ((), "no disk is blank"),
        ((BLANK, replace(BLANK, path="/dev/vdd")), "/dev/vdb and /dev/vdd are blank"),
        ((replace(BLANK, empty=False),), "no disk is blank"),
        (
            (
                OURS,
                OURS_1,
                replace(OURS, path="/dev/vde"),
                replace(OURS_1, path="/dev/vde1", parent="/dev/vde"),
            ),
            "/dev/vdc and /dev/vde are data disks of earlier runs",
        ),
    ],
)
def test_auto_refuses_to_choose_when_in_doubt(devices: tuple[BlockDevice, ...], said: str) -> None:
    with pytest.raises(ClawdError, match=said):
        choose(host(*devices), "auto")


def test_refusal_lists_the_disks_of_the_host() -> None:
    with pytest.raises(ClawdError) as raised:
        choose(host(), "auto")
    assert "/dev/vda (a partition table (gpt); /dev/vda1 (ext4 `root`, mounted on /))" in raised.value.advice


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tags": {"TYPE": "ext4", "LABEL": "photos"}}, "ext4 `photos`"),
        ({"tags": {"PTTYPE": "dos"}}, r"a partition table \(dos\)"),
        ({"tags": {"TYPE": "LVM2_member"}}, "a physical volume of LVM"),
        ({"tags": {"TYPE": "linux_raid_member"}}, "a member of a RAID"),
        ({"tags": {"TYPE": "crypto_LUKS"}}, "crypto_LUKS"),
        ({"mounts": ("/data",)}, "in use as /data"),
        ({"mounts": ("[SWAP]",)}, r"in use as \[SWAP\]"),
        ({"used_by": ("/dev/mapper/vg-lv",)}, "used by /dev/mapper/vg-lv"),
        ({"signatures": ("zfs_member",)}, "signatures of zfs_member"),
        ({"empty": False}, "data in its first MiB, or it cannot be read"),
        ({"read_only": True}, "it is read-only"),
    ],
)
def test_declared_disk_that_is_not_blank_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ClawdError, match=f"/dev/vdb is not blank, so it is not touched: {said}"):
        choose(host(replace(BLANK, **changes), declared="/dev/vdb"), "/dev/vdb")


@pytest.mark.parametrize(
    ("declared", "stands_for", "devices", "said"),
    [
        ("/dev/nowhere", "/dev/nowhere", (BLANK,), "there is no disk /dev/nowhere"),
        ("/dev/vda1", "/dev/vda1", (BLANK,), "is a partition of /dev/vda"),
        ("/dev/vda", "/dev/vda", (), "is not blank, so it is not touched"),
        ("/dev/vdb", "/dev/vdb", (BLANK, OURS, OURS_1), "not the data disk in use: that is /dev/vdc"),
        ("/dev/vdb", "/dev/vdb", (replace(BLANK, size=1 << 20),), "has only 1 MiB"),
    ],
)
def test_declared_disk_that_does_not_exist_or_fit_is_refused(
    declared: str, stands_for: str, devices: tuple[BlockDevice, ...], said: str
) -> None:
    with pytest.raises(ClawdError, match=said):
        choose(host(*devices, declared=stands_for), declared)


def test_disk_may_be_declared_by_its_id() -> None:
    by_id = "/dev/disk/by-id/nvme-1"
    assert choose(host(BLANK, replace(BLANK, path="/dev/vdd"), declared="/dev/vdd"), by_id).disk == "/dev/vdd"
    ours = choose(host(OURS, OURS_1, declared="/dev/vdc"), by_id)
    assert (ours.state, ours.uuid, ours.kind) == ("ours", "u-1", "xfs")


def test_mounted_partition_of_an_unfinished_run_is_not_formatted() -> None:
    devices = host(OURS, replace(BEGUN_1, mounts=("/mnt",)), declared="/dev/vdc")
    with pytest.raises(ClawdError, match="not touched"):
        choose(devices, "/dev/vdc")


def test_output_of_lsblk_wipefs_and_blkid_is_parsed() -> None:
    node = {"size": 8589934592, "ro": False, "rm": False, "mountpoints": [None]}
    child = {**node, "path": "/dev/sdb1", "type": "part", "mountpoints": ["/mnt"]}
    held = {**node, "path": "/dev/mapper/vg-lv", "type": "lvm"}
    tree = {"blockdevices": [{**node, "path": "/dev/sdb", "type": "disk", "children": [child, held]}]}
    devices = parse(
        [
            "declared /dev/sdb",
            f"tree {json.dumps(tree)}",
            "device /dev/sdb",
            "signature dos",
            "tag PTTYPE=dos",
            "empty",
            "device /dev/sdb1",
            "tag LABEL=my\\ data",
            "tag TYPE=ext4",
        ]
    )
    disk, part = devices.all
    assert disk == BlockDevice(
        "/dev/sdb",
        "disk",
        8 * GB,
        used_by=("/dev/mapper/vg-lv",),
        signatures=("dos",),
        tags={"PTTYPE": "dos"},
        empty=True,
    )
    assert (part.parent, part.mounts, part.tags["LABEL"]) == ("/dev/sdb", ("/mnt",), "my data")
    assert found_on(disk, devices) == (
        "used by /dev/mapper/vg-lv",
        "a partition table (dos)",
        "/dev/sdb1 (ext4 `my data`, mounted on /mnt)",
    )
