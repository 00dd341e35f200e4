"""A later purge of the data disk: only folders that were noted go, and only where the disk is not in use."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploys.ops.paths import data
from tests.deploys.harness import Machine, Run

pytestmark = pytest.mark.slow


def _shell(command: str, *arguments: str | Path) -> str:
    done = subprocess.run(["sh", "-ec", command, "sh", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop device can be mounted here: {done.stderr}")
    return done.stdout.strip()


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A disk with a folder of this program and a file of the administrator, noted by a removal."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    monkeypatch.setattr(data, "LEFT", str(tmp_path / "left"))
    monkeypatch.setattr(data, "FSTAB", str(tmp_path / "fstab"))
    image, content = tmp_path / "image", tmp_path / "content"
    (content / "bot").mkdir(parents=True)
    (content / "bot" / "bot.db").write_text("conversations")
    (content / "photos").write_text("theirs")
    _shell('truncate -s 8M "$1"; mke2fs -q -t ext4 -d "$2" "$1"', image, content)
    device = _shell('losetup -f --show "$1"', image)
    try:
        folders = {f"{device}:bot": "files on the data disk"}
        assert Machine().run(lambda: data.kept_or_purged("disk", folders)).changed
        yield device
    finally:
        subprocess.run(["losetup", "-d", device], check=True)


def purged() -> Run:
    return Machine({"purge": True}).run(lambda: data.purge_left("disk"))


def on(device: str, place: Path) -> list[str]:
    place.mkdir(exist_ok=True)
    return _shell('mount -o ro "$1" "$2"; ls "$2"; umount "$2"', device, place).splitlines()


def test_purge_deletes_the_noted_folder_and_nothing_else_on_the_disk(disk: str, tmp_path: Path) -> None:
    run = purged()
    assert [(change.path, change.diff) for change in run.changes] == [
        (f"{disk}:bot", ("deleted for good: files on the data disk, size not known",))
    ]
    assert run.succeeded, run.output
    assert on(disk, tmp_path / "place") == ["lost+found", "photos"]
    assert not purged().predicted


@pytest.mark.parametrize("by", ["path", "another name"])
def test_purge_skips_a_disk_in_fstab_and_reports_it(disk: str, tmp_path: Path, by: str) -> None:
    name = tmp_path / "by-another-name"
    name.symlink_to(disk)
    (tmp_path / "fstab").write_text(f"{disk if by == 'path' else name} /srv/photos ext4 noauto 0 2\n")
    run = purged()
    assert run.names[-1].endswith("Leave data: files on the data disk")
    assert [(change.path, change.diff) for change in run.changes] == [(f"{disk}:bot", (data.TAKEN,))]
    assert run.succeeded, run.output
    assert on(disk, tmp_path / "place") == ["bot", "lost+found", "photos"]
    assert not purged().predicted, "it is the administrator's from now on"


def test_purge_skips_a_mounted_disk(disk: str, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    _shell('mount "$1" "$2"', disk, place)
    try:
        assert purged().changes[0].diff == (data.TAKEN,)
        assert (place / "bot" / "bot.db").read_text() == "conversations"
    finally:
        _shell('umount "$1"', place)


def test_purge_skips_a_disk_without_noted_folders(disk: str, tmp_path: Path) -> None:
    """As in the note of an earlier version."""
    (tmp_path / "left" / "disk").write_text(f"{disk}\tfiles on the data disk\t\t\n")
    assert purged().changes[0].diff == (data.TAKEN,)
    assert on(disk, tmp_path / "place") == ["bot", "lost+found", "photos"]


def test_purge_fails_when_the_disk_is_in_use_after_the_plan(disk: str, tmp_path: Path) -> None:
    (tmp_path / "fstab").write_text(f"{disk} /srv/photos ext4 noauto 0 2\n")
    values = {"note": str(tmp_path / "left" / "disk"), "paths": f"{disk}:bot", "users": ""}
    ran = subprocess.run(
        ["sh", "-c", data._PURGE],
        env={**os.environ, **values, "fstab": str(tmp_path / "fstab")},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 1
    assert "in use, or in" in ran.stderr
    assert on(disk, tmp_path / "place") == ["bot", "lost+found", "photos"]


def test_purge_deletes_on_the_disk_that_the_component_mounted(disk: str, tmp_path: Path) -> None:
    def remove() -> None:
        data.kept_or_purged("disk", {}, released=(disk,))

    run = Machine({"purge": True}).run(remove)
    assert run.succeeded, run.output
    assert on(disk, tmp_path / "place") == ["lost+found", "photos"]
