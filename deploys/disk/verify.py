"""Read-only checks of the data disk."""

from __future__ import annotations

from typing import Any

from deploys.disk.operations import MountFact, MountState, PlaceFact, PlaceState
from deploys.disk.settings import DiskFolder, DiskSettings
from deploys.disk.units import UNITS, target_of, unit_of
from deploys.ops.checks import expect

LEAST_FREE = 64 << 20
LEAST_INODES = 100


def test_disk_is_mounted_by_uuid(host: Any, settings: DiskSettings) -> None:
    unit = host.file(f"{UNITS}/{unit_of(settings.mount)}")
    expect(unit.exists, f"no unit mounts {settings.mount}")
    state = mounted(host, settings)
    expect(state.mounted, f"nothing is mounted on {settings.mount}", "is the disk attached? see `lsblk`")
    expect(
        f"What=/dev/disk/by-uuid/{state.uuid}\n" in unit.content_string,
        f"{settings.mount} shows another file system, {state.uuid}",
    )


def test_disk_can_be_written(host: Any, settings: DiskSettings) -> None:
    options = host.run("findmnt --noheadings --output OPTIONS --mountpoint %s", settings.mount).stdout
    expect(
        "rw" in options.strip().split(","),
        f"{settings.mount} is mounted read-only, or not at all",
        "read `journalctl -k` on the host for disk errors, then `mount -o remount,rw` it",
    )


def test_disk_has_room(host: Any, settings: DiskSettings) -> None:
    shown = host.check_output("df --output=avail,iavail -B1 %s", settings.mount).splitlines()[-1]
    free, inodes = shown.split()
    hint = f"`du -xh --max-depth=2 {settings.mount} | sort -h` on the host shows what takes the space"
    expect(int(free) >= LEAST_FREE, f"{settings.mount} is full: {int(free) >> 20} MiB are free", hint)
    full = inodes != "-" and int(inodes) < LEAST_INODES
    expect(not full, f"{settings.mount} has only {inodes} inodes left: too many files", hint)


def test_disk_is_mounted_at_boot(host: Any, settings: DiskSettings) -> None:
    state = mounted(host, settings)
    expect(state.enabled, f"{settings.mount} is not mounted at boot")
    expect(not state.stale, "the unit that mounts it was changed, and systemd has not read it")


def test_folders_lie_on_the_disk(host: Any, settings: DiskSettings) -> None:
    elsewhere = [place.folder for place in settings.places if not placed(host, place, settings).shown]
    expect(not elsewhere, f"not on the data disk: {', '.join(elsewhere)}")


def test_folders_lie_there_after_a_boot(host: Any, settings: DiskSettings) -> None:
    states = {place.folder: placed(host, place, settings) for place in settings.places}
    lacking = [folder for folder, state in states.items() if not state.enabled or state.stale]
    expect(not lacking, f"only until the next boot: {', '.join(lacking)}")


def test_nothing_is_left_of_a_move(host: Any, settings: DiskSettings) -> None:
    left = [place.folder for place in settings.places if placed(host, place, settings).aside]
    expect(not left, f"old copies take space of the system's disk: {', '.join(left)}")


def mounted(host: Any, settings: DiskSettings) -> MountState:
    """Return the mount at the place of the disk."""
    fact = MountFact()
    return fact.process(host.check_output(fact.command(settings.mount)).splitlines())


def placed(host: Any, place: DiskFolder, settings: DiskSettings) -> PlaceState:
    """Return the state of a folder."""
    fact = PlaceFact()
    command = fact.command(place.folder, target_of(place, settings.mount))
    return fact.process(host.check_output(command).splitlines())
