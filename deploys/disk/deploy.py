"""A data disk: found, formatted when it is blank, mounted by UUID, and used for folders of the host."""

from __future__ import annotations

from uuid import uuid4

from pyinfra import host
from pyinfra.api import deploy

from deploys.disk.devices import DevicesFact, DiskChoice, choose
from deploys.disk.operations import (
    OurUnit,
    OurUnitsFact,
    PlaceFact,
    PlaceState,
    formatted,
    mounted,
    placed,
    released,
)
from deploys.disk.pending_space import will_hold
from deploys.disk.settings import DiskFolder, DiskSettings
from deploys.disk.units import UNITS, disk_unit, place_unit, target_of, unit_of
from deploys.ops.debian import packages
from deploys.ops.diff import expected
from deploys.ops.paths import data, files
from deploys.ops.removal import removal
from deploys.settings import purging, settings_of
from inventory.errors import ClawdError, HostError

TOOLS = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}


@deploy("Disk")
def apply() -> None:
    """Mount the data disk, and place the declared folders on it.

    Raises `HostError` before anything is changed: when the choice of the disk is not unambiguous, when the
    chosen one has anything on it, and when a folder cannot be moved unambiguously.
    """
    settings = settings_of("disk", DiskSettings)
    choice = _choice(settings.device)
    uuid, filesystem = choice.uuid or str(uuid4()), choice.kind or settings.filesystem
    for place in settings.places:
        _require_movable(place, settings.mount)
    dropped = _no_longer_declared(settings)
    _require_unused(dropped)
    for unit in dropped:
        released(unit)
    packages.installed("fdisk", TOOLS[filesystem], component="disk")
    formatted(choice, settings.device, filesystem, uuid)
    files.put(f"{UNITS}/{unit_of(settings.mount)}", disk_unit(settings.mount, uuid, filesystem))
    mounted(settings.mount, uuid)
    for place in settings.places:
        files.put(f"{UNITS}/{unit_of(place.folder)}", place_unit(place, settings.mount))
        placed(place, settings.mount)
        will_hold(place.folder, choice)


@removal("disk")
def remove() -> None:
    """Unmount the disk and its folders; data stay on the disk, for the next run that declares it.

    Raises `HostError` while a unit is installed that keeps its data there. A purge deletes the data; the file
    system stays, and a later run uses it again.
    """
    units: tuple[OurUnit, ...] = host.get_fact(OurUnitsFact)
    _require_unused(units)
    for unit in units:
        released(unit, purge=purging())
    disks = tuple(unit for unit in units if unit.is_disk)
    # A purge finds these folders, and no others, on a disk that an earlier removal has unmounted.
    folders = {
        f"{disk.source}:{unit.source.removeprefix(f'{disk.folder}/')}": "files on the data disk"
        for disk in disks
        for unit in units
        if unit.source.startswith(f"{disk.folder}/")
    }
    data.kept_or_purged("disk", {} if purging() else folders, released=tuple(disk.source for disk in disks))
    packages.removed("disk")


def _choice(device: str) -> DiskChoice:
    try:
        return choose(host.get_fact(DevicesFact, device=device), device)
    except ClawdError as error:
        raise HostError(f"{host.name}: {error.message}", advice=error.advice) from error


def _require_unused(units: tuple[OurUnit, ...]) -> None:
    """Raise `HostError` unless the units that need a folder are removed, before or earlier in this run."""
    for unit in units:
        left = [user for user in unit.users if not expected(host, user)]
        if left and not expected(host, "packages"):
            raise HostError(
                f"{host.name}: {', '.join(left)} keeps its data in {unit.folder}, on the data disk",
                advice="remove it from this host first, or declare `disk` with it again",
            )


def _require_movable(place: DiskFolder, mount: str) -> None:
    target = target_of(place, mount)
    state: PlaceState = host.get_fact(PlaceFact, folder=place.folder, target=target)
    if state.foreign:
        raise HostError(
            f"{host.name}: {place.folder} is a link, or something else is mounted on it, so it is not moved",
            advice="make it a plain folder, or leave it out of `disk.keeps`",
        )
    if state.filled and state.on_disk and not state.shown:
        raise HostError(
            f"{host.name}: both {place.folder} and {target} have files, and it is not known which are wanted",
            advice="move one of them away",
        )


def _no_longer_declared(settings: DiskSettings) -> tuple[OurUnit, ...]:
    """Return the units that are no longer declared. Raises `HostError` when the disk itself is among them."""
    units: tuple[OurUnit, ...] = host.get_fact(OurUnitsFact)
    wanted = {unit_of(settings.mount), *(unit_of(place.folder) for place in settings.places)}
    for unit in units:
        if unit.is_disk and unit.name not in wanted:
            raise HostError(
                f"{host.name}: the data disk is mounted on {unit.folder}, and {settings.mount} is declared",
                advice=f"declare `mount: {unit.folder}`, or take `disk` out, run, and declare it again",
            )
    return tuple(unit for unit in units if unit.name not in wanted)
