"""Formatting and mounting a data disk, and moving folders onto it.

Every script can be killed at any instant: the next run finds what state things are in and goes on. Data is
deleted only when its copy is complete, on the disk, and mounted in its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.disk.devices import BEGUN, LABEL, Choice, Devices, DevicesFact, choose
from deploys.disk.scripts import FORMAT, MOUNT, PLACE, PLACE_STATE, RELEASE, UNIT_STATE, UNITS_OF_OURS
from deploys.disk.settings import Place
from deploys.disk.units import UNITS, target_of, unit_of
from deploys.ops.changes import Change, expected, operation, record
from deploys.ops.facts import Fact
from deploys.ops.shell import assignments, script
from inventory.errors import HostError


@dataclass(frozen=True, slots=True)
class MountState:
    """A mount unit: whether it is `mounted`, comes back at boot (`enabled`), and was changed (`stale`).

    `uuid` is that of the file system mounted there, empty when that is another thing.
    """

    mounted: bool = False
    enabled: bool = False
    stale: bool = False
    uuid: str = ""


class MountFact(Fact):
    """What is mounted on a folder."""

    def command(self, path: str) -> str:
        """A script that prints `key=value` lines."""
        return assignments(path=path, unit=unit_of(path)) + UNIT_STATE

    @staticmethod
    def default() -> MountState:
        """Nothing."""
        return MountState()

    def process(self, output: list[str]) -> MountState:
        """Turn the lines into a `MountState`."""
        said = dict(line.split("=", 1) for line in output if "=" in line)
        return MountState(
            said.get("mounted") == "yes",
            said.get("enabled") in ("enabled", "alias"),
            said.get("NeedDaemonReload") == "yes",
            said.get("uuid", ""),
        )


@dataclass(frozen=True, slots=True)
class PlaceState:
    """A folder of the host and its counterpart on the disk.

    `shown`: the disk's folder is what programs see. `filled` and `on_disk`: it has files of its own, there is
    one on the disk. `size`: bytes in it. `aside`: the old one is still kept beside it. `foreign`: something
    else is mounted on it, or it is a link.
    """

    shown: bool = False
    filled: bool = False
    on_disk: bool = False
    size: int = 0
    aside: bool = False
    foreign: bool = False
    enabled: bool = False
    stale: bool = False

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return self.shown and self.enabled and not self.stale and not self.aside


class PlaceFact(Fact):
    """State of a folder and of its counterpart on the disk."""

    def command(self, folder: str, target: str) -> str:
        """A script that prints the words that hold, and the size."""
        return assignments(folder=folder, target=target, unit=unit_of(folder)) + PLACE_STATE

    @staticmethod
    def default() -> PlaceState:
        """No such folder anywhere."""
        return PlaceState()

    def process(self, output: list[str]) -> PlaceState:
        """Turn the words into a `PlaceState`."""
        words = dict(line.split("=", 1) for line in output if "=" in line)
        size = int(words.pop("size", "0") or 0)
        return PlaceState(**{name: value == "yes" for name, value in words.items()}, size=size)


@dataclass(frozen=True, slots=True)
class OurUnit:
    """A mount unit that we wrote: its name, folder, source, and those `users` of it that are installed."""

    name: str
    folder: str
    source: str
    users: tuple[str, ...] = ()

    @property
    def is_disk(self) -> bool:
        """Whether it mounts the disk itself."""
        return self.source.startswith("/dev/")


class OurUnitsFact(Fact):
    """The mount units that we wrote, folders before the disk."""

    def command(self) -> str:
        """A script that prints a line a unit."""
        return assignments(units=UNITS) + UNITS_OF_OURS

    @staticmethod
    def default() -> tuple[OurUnit, ...]:
        """None."""
        return ()

    def process(self, output: list[str]) -> tuple[OurUnit, ...]:
        """Turn the lines into units."""
        rows = [line.split("|") for line in output if line.count("|") == 3]
        units = [OurUnit(name, folder, source, tuple(users.split())) for name, folder, source, users in rows]
        return tuple(sorted(units, key=lambda unit: (unit.is_disk, unit.name)))


def formatted(choice: Choice, declared: str, filesystem: str, uuid: str) -> OperationMeta:
    """The chosen disk has one partition with a file system of ours. With anything else on it, this fails."""
    return _formatted(choice.disk, declared, filesystem, uuid, name=f"Format {choice.disk}")


def mounted(mount: str, uuid: str) -> OperationMeta:
    """The file system `uuid` is mounted on `mount`, whose unit is written already, and so at boot."""
    return _mounted(mount, uuid, name=f"Mount {mount}")


def placed(place: Place, mount: str) -> OperationMeta:
    """`place.folder` lies on the disk; what was in it has moved there."""
    return _placed(place, mount, name=f"{place.folder} on the data disk")


def released(unit: OurUnit, *, purge: bool = False) -> OperationMeta:
    """`unit` is gone and its folder unmounted; data stay on the disk unless purged.

    Fails while a unit that needs the folder is installed, or a process uses it.
    """
    what = "the data disk" if unit.is_disk else unit.folder
    kept = "" if purge else ", whose data stay on it" if unit.is_disk else ", data stay on the disk"
    return _released(unit.name, unit.folder, purge, name=f"Unmount {what}{kept}")


@operation
def _formatted(disk: str, declared: str, filesystem: str, uuid: str) -> Iterator[StringCommand]:
    devices: Devices = host.get_fact(DevicesFact, device=declared)
    choice = choose(devices, declared)
    if choice.disk != disk:
        raise HostError(f"{host.name}: the data disk was {disk} and is now {choice.disk}", advice="run again")
    if choice.state == "ours":
        return
    size = f"{choice.size / 1e9:.1f} GB"
    what = "formatting goes on" if choice.state == "begun" else "it is blank"
    record(Change(disk, (f"partition and format as {filesystem}, {size} ({what})",)))
    yield script(
        FORMAT, disk=disk, state=choice.state, filesystem=filesystem, uuid=uuid, label=LABEL, begun=BEGUN
    )


@operation
def _mounted(mount: str, uuid: str) -> Iterator[StringCommand]:
    state: MountState = host.get_fact(MountFact, path=mount)
    unit_changes = expected(host, f"{UNITS}/{unit_of(mount)}")
    if state.mounted and state.uuid == uuid and state.enabled and not state.stale and not unit_changes:
        return
    record(Change(mount, ("mount the data disk" if not state.mounted else "mount it at boot as well",)))
    yield script(MOUNT, path=mount, unit=unit_of(mount), uuid=uuid)


@operation
def _placed(place: Place, mount: str) -> Iterator[StringCommand]:
    target = target_of(place, mount)
    state: PlaceState = host.get_fact(PlaceFact, folder=place.folder, target=target)
    if state.settled and not expected(host, f"{UNITS}/{unit_of(place.folder)}"):
        return
    record(Change(place.folder, (told(state, target),)))
    yield script(
        PLACE,
        folder=place.folder,
        target=target,
        disk=mount,
        unit=unit_of(place.folder),
        users=" ".join(place.users),
    )


def told(state: PlaceState, target: str) -> str:
    """What is about to happen to a folder, in words."""
    if state.shown:
        return "remove the copy that is left on the system's disk" if state.aside else "mount it at boot"
    if state.aside:
        return f"go on moving it to {target}"
    if state.filled and not state.on_disk:
        return f"move {state.size / 1e6:.1f} MB to {target} and show them here"
    return f"show {target} here"


@operation
def _released(unit: str, folder: str, purge: bool) -> Iterator[StringCommand]:
    units: tuple[OurUnit, ...] = host.get_fact(OurUnitsFact)
    ours = next((known for known in units if known.name == unit), None)
    if ours is None:
        return
    what = "unmount" if not purge else "unmount, data removed" if not ours.is_disk else "unmount"
    record(Change(folder, (what,)))
    yield script(
        RELEASE,
        unit=unit,
        folder=folder,
        source=ours.source,
        users=" ".join(ours.users),
        purge="yes" if purge and not ours.is_disk else "",
        units=UNITS,
    )
