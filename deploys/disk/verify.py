"""Checks of the data disk, read-only."""

from __future__ import annotations

from typing import Any

from deploys.disk.operations import MountFact, MountState, PlaceFact, PlaceState
from deploys.disk.settings import DiskSettings, Place
from deploys.disk.units import UNITS, target_of, unit_of


def test_disk_is_mounted_by_uuid(host: Any, settings: DiskSettings) -> None:
    unit = host.file(f"{UNITS}/{unit_of(settings.mount)}")
    assert unit.exists, f"no unit mounts {settings.mount}"
    state = mounted(host, settings)
    assert state.mounted, f"nothing is mounted on {settings.mount}"
    assert f"What=/dev/disk/by-uuid/{state.uuid}\n" in unit.content_string, (
        f"{settings.mount} shows another file system, {state.uuid}"
    )


def test_disk_can_be_written(host: Any, settings: DiskSettings) -> None:
    options = host.run("findmnt --noheadings --output OPTIONS --mountpoint %s", settings.mount).stdout
    assert "rw" in options.strip().split(","), (
        "read-only, or not mounted: see `journalctl -k` for disk errors"
    )


def test_disk_is_mounted_at_boot(host: Any, settings: DiskSettings) -> None:
    state = mounted(host, settings)
    assert state.enabled
    assert not state.stale, "its unit was changed, and systemd has not read it"


def test_folders_lie_on_the_disk(host: Any, settings: DiskSettings) -> None:
    elsewhere = [place.folder for place in settings.places if not placed(host, place, settings).shown]
    assert not elsewhere, f"not on the data disk: {', '.join(elsewhere)}"


def test_folders_lie_there_after_a_boot(host: Any, settings: DiskSettings) -> None:
    states = {place.folder: placed(host, place, settings) for place in settings.places}
    lacking = [folder for folder, state in states.items() if not state.enabled or state.stale]
    assert not lacking, f"only until the next boot: {', '.join(lacking)}"


def test_nothing_is_left_of_a_move(host: Any, settings: DiskSettings) -> None:
    left = [place.folder for place in settings.places if placed(host, place, settings).aside]
    assert not left, f"old copies take space of the system's disk: {', '.join(left)}"


def mounted(host: Any, settings: DiskSettings) -> MountState:
    """What is mounted where the disk should be."""
    fact = MountFact()
    return fact.process(host.check_output(fact.command(settings.mount)).splitlines())


def placed(host: Any, place: Place, settings: DiskSettings) -> PlaceState:
    """State of a folder."""
    fact = PlaceFact()
    command = fact.command(place.folder, target_of(place, settings.mount))
    return fact.process(host.check_output(command).splitlines())
