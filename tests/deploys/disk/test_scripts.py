"""The scripts of the data disk, killed before each of their commands and run again.

Moving runs on this machine in a mount namespace of its own, with a stand-in for systemctl; formatting runs on
a real loop device, with the real sfdisk, mkfs, blkid and wipefs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from deploys.disk.devices import BEGUN, LABEL, Devices, DevicesFact, DiskChoice, choose
from deploys.ops.programs import program
from deploys.ops.shell import assignments
from inventory.errors import ClawdError
from tests.deploys.disk import attached

FORMAT = program("deploys/disk/scripts/format.sh")
PLACE = program("deploys/disk/scripts/place.sh")
RELEASE = program("deploys/disk/scripts/release.sh")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]

# Runs before every command of the script and of its functions, and ends it at the chosen one.
KILLER = r"""
set -o functrace
count=0
before() { count=$((count + 1)); [ "$count" -ne "$KILL_AT" ] || kill -9 $$; }
trap before DEBUG
"""
SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$LOG"
case $1 in
    start) case $2 in *.mount) mount --bind "$TARGET" "$FOLDER" ;; esac ;;
    stop) case $2 in *.mount) umount "$FOLDER" ;; esac ;;
    is-active) [ -e "$RUNNING" ] ;;
    show) echo not-found ;;
esac
"""


class House:
    """A folder with data, and a stand-in disk to move it to."""

    def __init__(self, root: Path, files: dict[str, str]) -> None:
        self.root, self.files = root, files
        self.folder, self.disk = root / "var" / "bot", root / "disk"
        for name, text in files.items():
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.disk.mkdir(parents=True)
        self.tool = root / "bin" / "systemctl"
        self.tool.parent.mkdir(parents=True)
        self.tool.write_text(SYSTEMCTL)
        self.tool.chmod(0o755)

    def run(self, script: str, *, kill_at: int = 0, then: str = ":") -> subprocess.CompletedProcess[str]:
        """The script in a namespace in which the disk is mounted; `then` is a second command in it."""
        values = assignments(
            folder=str(self.folder),
            target=f"{self.disk}/bot",
            source=f"{self.disk}/bot",
            disk=str(self.disk),
            unit="bot.mount",
            units=str(self.root / "units"),
            users="clawd-bot.service",
            purge="",
        )
        (self.root / "script").write_text((KILLER if kill_at else "") + values + script)
        shell = (
            f"mount --bind {self.disk} {self.disk}; bash {self.root}/script; status=$?; {then}; exit $status"
        )
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", shell],
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
            env={
                "PATH": f"{self.tool.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
                "LOG": str(self.root / "log"),
                "RUNNING": str(self.root / "running"),
                "TARGET": f"{self.disk}/bot",
                "FOLDER": str(self.folder),
                "KILL_AT": str(kill_at),
            },
        )

    def whole_copies(self) -> int:
        """In how many of the places where a run leaves data all of it is."""
        places = (
            self.folder,
            self.folder.with_name("bot.before-disk"),
            self.disk / "bot",
            self.disk / "bot.incoming",
        )
        return sum(content_of(place) == self.files for place in places)


def content_of(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    return {str(path.relative_to(folder)): path.read_text() for path in files}


FILES = {"bot.db": "what people asked", "deep/er/file": "more", "empty": ""}


def test_move_that_is_killed_before_any_command_is_completed_by_the_next_run(tmp_path: Path) -> None:
    killed = 0
    for number in range(1, 400):
        house = House(tmp_path / str(number), FILES)
        first = house.run(PLACE, kill_at=number)
        if first.returncode == 0:
            break
        killed += 1
        assert house.whole_copies() >= 1, f"no whole copy after a kill before command {number}"
        second = house.run(PLACE, then=f"ls -R {house.folder} > {house.root}/shown")
        assert second.returncode == 0, f"after a kill before command {number}: {second.stderr}"
        assert content_of(house.disk / "bot") == FILES
        assert "bot.db" in (house.root / "shown").read_text()
        assert {path.name for path in house.folder.parent.iterdir()} == {"bot"}
        assert {path.name for path in house.disk.iterdir()} == {"bot"}
        assert content_of(house.folder) == {}, "below the mount the old files are left"
        shutil.rmtree(house.root)
    else:
        pytest.fail("the script never ran to its end")
    assert killed > 40


def test_files_changed_after_a_killed_move_are_not_lost(tmp_path: Path) -> None:
    """Until the old folder is renamed it alone counts, not what was copied before."""
    for number in range(1, 400, 3):
        house = House(tmp_path / str(number), FILES)
        if house.run(PLACE, kill_at=number).returncode == 0:
            break
        newer = house.folder / "bot.db"
        if newer.is_file():
            newer.write_text("a later question")
            assert house.run(PLACE).returncode == 0
            assert (house.disk / "bot" / "bot.db").read_text() == "a later question"
        shutil.rmtree(house.root)
    else:
        pytest.fail("the script never ran to its end")


def test_move_keeps_owners_links_and_modes(tmp_path: Path) -> None:
    house = House(tmp_path, FILES)
    (house.folder / "link").symlink_to("bot.db")
    os.link(house.folder / "bot.db", house.folder / "again")
    os.chown(house.folder / "bot.db", 4711, 4712)
    house.folder.chmod(0o700)
    assert house.run(PLACE).returncode == 0
    moved = house.disk / "bot"
    assert (moved / "link").is_symlink()
    assert (moved / "again").stat().st_ino == (moved / "bot.db").stat().st_ino
    assert ((moved / "bot.db").stat().st_uid, (moved / "bot.db").stat().st_gid) == (4711, 4712)
    assert moved.stat().st_mode & 0o7777 == 0o700


def test_service_is_stopped_during_the_move_and_started_again(tmp_path: Path) -> None:
    house = House(tmp_path, FILES)
    (tmp_path / "running").touch()
    assert house.run(PLACE).returncode == 0
    said = (tmp_path / "log").read_text().splitlines()
    assert (
        said.index("stop clawd-bot.service")
        < said.index("start bot.mount")
        < said.index("start clawd-bot.service")
    )


def test_move_is_refused_when_both_folders_have_data(tmp_path: Path) -> None:
    house = House(tmp_path, FILES)
    (house.disk / "bot").mkdir()
    (house.disk / "bot" / "bot.db").write_text("of an earlier host")
    done = house.run(PLACE)
    assert done.returncode == 1
    assert "both" in done.stderr
    assert content_of(house.folder) == FILES
    assert content_of(house.disk / "bot") == {"bot.db": "of an earlier host"}


def test_data_of_an_earlier_host_is_mounted(tmp_path: Path) -> None:
    house = House(tmp_path, {})
    (house.disk / "bot").mkdir()
    (house.disk / "bot" / "bot.db").write_text("of an earlier host")
    assert house.run(PLACE, then=f"cat {house.folder}/bot.db > {tmp_path}/shown").returncode == 0
    assert (tmp_path / "shown").read_text() == "of an earlier host"


def test_move_to_a_disk_that_is_too_small_changes_nothing(tmp_path: Path) -> None:
    house = House(tmp_path, {"big": "x" * 3_000_000})
    (tmp_path / "running").touch()
    done = house.run(PLACE.replace("set -eu", f"set -eu\nmount -t tmpfs -o size=1m none {house.disk}", 1))
    assert done.returncode == 1
    assert "the data disk only" in done.stderr
    assert content_of(house.folder) == house.files
    assert (tmp_path / "log").read_text().splitlines()[-1] == "start clawd-bot.service"


def test_releasing_the_disk_keeps_its_data(tmp_path: Path) -> None:
    house = House(tmp_path, FILES)
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "bot.mount").touch()
    assert house.run(PLACE + "(" + RELEASE + ")").returncode == 0
    assert content_of(house.disk / "bot") == FILES
    assert not (tmp_path / "units" / "bot.mount").exists()
    assert not house.folder.exists()


# Formatting, for real

needs_loop = pytest.mark.skipif(
    not attached.works() or not shutil.which("sfdisk"), reason="no loop devices or no sfdisk on this machine"
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """A blank disk of 400 MiB."""
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 400 << 20)
    path = attached.run("losetup", "--find", "--show", str(image))
    attached.run("partx", "--delete", path, check=False)
    yield path
    attached.run("partx", "--delete", path, check=False)
    attached.run("losetup", "--detach", path)


def chosen(disk: str) -> DiskChoice:
    """Return what is chosen on a host that has this disk only.

    Other tests on this machine attach loop devices at the same time; they are disks of other hosts.
    """
    subprocess.run(["partx", "--update", disk], capture_output=True, check=False)
    fact = DevicesFact()
    done = subprocess.run(["sh", "-c", fact.command(disk)], capture_output=True, text=True, check=True)
    found = fact.process(done.stdout.splitlines())
    own = tuple(device for device in found.all if disk in (device.path, device.parent))
    assert own, f"{disk} is not among {found}"
    return choose(Devices(own, found.declared), disk)


UUID = "b8a5d1a2-6c3f-4f0e-9d35-0123456789ab"


def formatted(disk: str, state: str, filesystem: str, kill_at: int = 0) -> subprocess.CompletedProcess[str]:
    values = assignments(disk=disk, state=state, filesystem=filesystem, uuid=UUID, label=LABEL, begun=BEGUN)
    script = f"KILL_AT={kill_at}\n{KILLER if kill_at else ''}{values}{FORMAT}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=60)


@needs_loop
@pytest.mark.parametrize("filesystem", ["ext4", "xfs"])
def test_blank_disk_is_formatted_with_the_declared_file_system(disk: str, filesystem: str) -> None:
    if not shutil.which(f"mkfs.{filesystem}"):
        pytest.skip(f"no mkfs.{filesystem} on this machine")
    assert chosen(disk).state == "blank"
    done = formatted(disk, "blank", filesystem)
    assert done.returncode == 0, done.stderr
    made = chosen(disk)
    assert (made.state, made.file_system, made.uuid, made.kind) == ("ours", f"{disk}p1", UUID, filesystem)
    table = json.loads(attached.run("sfdisk", "--json", disk))["partitiontable"]
    (part,) = table["partitions"]
    assert (table["label"], part["name"], part["start"] % 2048) == ("gpt", LABEL, 0)
    assert part["size"] * 512 > (397 << 20)


@needs_loop
@pytest.mark.campaign
def test_formatting_that_is_killed_before_any_command_is_completed_by_the_next_run(disk: str) -> None:
    for number in range(1, 200):
        first = formatted(disk, "blank", "ext4", kill_at=number)
        if first.returncode == 0:
            break
        choice = chosen(disk)
        if choice.state != "ours":
            second = formatted(disk, choice.state, "ext4")
            assert second.returncode == 0, f"after a kill before command {number}: {second.stderr}"
        assert chosen(disk).state == "ours"
        attached.run("partx", "--delete", disk, check=False)
        attached.run("blkdiscard", "--zeroout", disk)
    assert number > 15


CONTENT = {
    "ext4": "mkfs.ext4 -q -F {}",
    "swap": "mkswap {}",
    "gpt": "echo 'label: gpt' | sfdisk -q {}",
    "dos": "echo 'label: dos' | sfdisk -q {}",
    "a byte": "printf x | dd of={} bs=1 seek=1000000 conv=notrunc",
    "another's ext4": "printf 'label: gpt\\ntype=linux\\n' | sfdisk -q {}; partx -u {}; mkfs.ext4 -q {}p1",
}


@needs_loop
@pytest.mark.parametrize("content", CONTENT)
def test_disk_that_is_not_blank_is_never_formatted(disk: str, content: str, tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", CONTENT[content].replace("{}", disk)], check=True, capture_output=True)
    os.sync()
    before = sha256((tmp_path / "image").read_bytes()).hexdigest()
    with pytest.raises(ClawdError, match="is not blank, so it is not touched"):
        chosen(disk)
    # A wrong decision beforehand does no harm either: the script asks again.
    for state in ("blank", "begun") if content == "another's ext4" else ("blank",):
        done = formatted(disk, state, "ext4")
        assert done.returncode != 0
        assert f"{disk} is not touched" in done.stderr
    os.sync()
    assert sha256((tmp_path / "image").read_bytes()).hexdigest() == before


@needs_loop
def test_mounted_disk_is_never_formatted(disk: str, tmp_path: Path) -> None:
    formatted(disk, "blank", "ext4")
    (tmp_path / "m").mkdir()
    attached.run("mount", f"{disk}p1", str(tmp_path / "m"))
    try:
        done = formatted(disk, "begun", "ext4")
        assert done.returncode != 0
        assert "it is in use" in done.stderr
        assert chosen(disk).state == "ours"
    finally:
        attached.run("umount", str(tmp_path / "m"))
