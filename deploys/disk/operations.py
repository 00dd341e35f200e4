"""Formatting and mounting a data disk, and moving folders onto it.

Every script can be killed at any moment: the next run reads the state and continues. Data are deleted only
when their copy is complete, on the disk, and mounted in their place.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.disk.devices import BEGUN, LABEL, Devices, DevicesFact, DiskChoice, choose
from deploys.disk.settings import DiskFolder
from deploys.disk.units import UNITS, target_of, unit_of
from deploys.ops.diff import expected, operation, record
from deploys.ops.facts import Fact, keyed
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script
from inventory.errors import HostError

_UNIT_STATE = program("deploys/disk/scripts/unit_state.sh")
_PLACE_STATE = program("deploys/disk/scripts/place_state.sh")
_UNITS_OF_OURS = program("deploys/disk/scripts/units_of_ours.sh")
_FORMAT = program("deploys/disk/scripts/format.sh")
_MOUNT = program("deploys/disk/scripts/mount.sh")
_PLACE = program("deploys/disk/scripts/place.sh")
_RELEASE = program("deploys/disk/scripts/release.sh")


@dataclass(frozen=True, slots=True)
class MountState:
    """A mount unit: whether it is `mounted`, mounted at boot (`enabled`), and changed since (`stale`).

    `uuid` is that of the file system mounted there, empty when it has none.
    """

    mounted: bool = False
    enabled: bool = False
    stale: bool = False
    uuid: str = ""


class MountFact(Fact):
    """The mount on a folder."""

    def command(self, path: str) -> str:
        """Return a script that prints `key=value` lines."""
        return assignments(path=path, unit=unit_of(path)) + _UNIT_STATE

    @staticmethod
    def default() -> MountState:
        """Return that nothing is mounted."""
        return MountState()

    def process(self, output: list[str]) -> MountState:
        """Turn the lines into a `MountState`."""
        said = keyed(output)
        return MountState(
            said.get("mounted") == "yes",
            said.get("enabled") in ("enabled", "alias"),
            said.get("NeedDaemonReload") == "yes",
            said.get("uuid", ""),
        )


@dataclass(frozen=True, slots=True)
class PlaceState:
    """A folder of the host and its counterpart on the disk.

    `shown`: programs see the disk's folder. `filled`: the host's folder has files. `on_disk`: there is a
    folder on the disk. `size`: bytes in it. `aside`: the old folder is still kept next to it. `foreign`:
    something else is mounted on it, or it is a link.
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
        """Return whether there is nothing left to do."""
        return self.shown and self.enabled and not self.stale and not self.aside


class PlaceFact(Fact):
    """State of a folder and of its counterpart on the disk."""

    def command(self, folder: str, target: str) -> str:
        """Return a script that prints the words that apply, and the size."""
        return assignments(folder=folder, target=target, unit=unit_of(folder)) + _PLACE_STATE

    @staticmethod
    def default() -> PlaceState:
        """Return that neither folder exists."""
        return PlaceState()

    def process(self, output: list[str]) -> PlaceState:
        """Turn the words into a `PlaceState`."""
        words = keyed(output)
        size = int(words.pop("size", "0") or 0)
        return PlaceState(**{name: value == "yes" for name, value in words.items()}, size=size)


@dataclass(frozen=True, slots=True)
class OurUnit:
    """A mount unit that we wrote: its name, folder, source, and its `users` that are installed."""

    name: str
    folder: str
    source: str
    users: tuple[str, ...] = ()

    @property
    def is_disk(self) -> bool:
        """Return whether it mounts the disk itself."""
        return self.source.startswith("/dev/")


class OurUnitsFact(Fact):
    """The mount units that we wrote, folders before the disk."""

    def command(self) -> str:
        """Return a script that prints one line per unit."""
        return assignments(units=UNITS) + _UNITS_OF_OURS

    @staticmethod
    def default() -> tuple[OurUnit, ...]:
        """Return no units."""
        return ()

    def process(self, output: list[str]) -> tuple[OurUnit, ...]:
        """Turn the lines into units."""
        rows = [line.split("|") for line in output if line.count("|") == 3]
        units = [OurUnit(name, folder, source, tuple(users.split())) for name, folder, source, users in rows]
        return tuple(sorted(units, key=lambda unit: (unit.is_disk, unit.name)))


def formatted(choice: DiskChoice, declared: str, filesystem: str, uuid: str) -> OperationMeta:
    """Create one partition with our file system on the chosen disk; fail if anything else is on it."""
    return _formatted(choice.disk, declared, filesystem, uuid, name=f"Format {choice.disk}")


def mounted(mount: str, uuid: str) -> OperationMeta:
    """Mount the file system `uuid` on `mount`, whose unit is written already, now and at boot."""
    return _mounted(mount, uuid, name=f"Mount {mount}")


def placed(place: DiskFolder, mount: str) -> OperationMeta:
    """Move the content of `place.folder` to the disk and mount it there."""
    return _placed(place, mount, name=f"{place.folder} on the data disk")


def released(unit: OurUnit, *, purge: bool = False) -> OperationMeta:
    """Remove `unit` and unmount its folder; keep data on the disk unless purging.

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
        raise HostError(
            f"{host.name}: the data disk was {disk} and is now {choice.disk}", advice="run `up` again"
        )
    if choice.state == "ours":
        return
    size = f"{choice.size / 1e9:.1f} GB"
    what = "formatting continues" if choice.state == "begun" else "it is blank"
    record(Change(disk, (f"partition and format as {filesystem}, {size} ({what})",)))
    yield script(
        _FORMAT, disk=disk, state=choice.state, filesystem=filesystem, uuid=uuid, label=LABEL, begun=BEGUN
    )


@operation
def _mounted(mount: str, uuid: str) -> Iterator[StringCommand]:
    state: MountState = host.get_fact(MountFact, path=mount)
    unit_changes = expected(host, f"{UNITS}/{unit_of(mount)}")
    if state.mounted and state.uuid == uuid and state.enabled and not state.stale and not unit_changes:
        return
    record(Change(mount, ("mount the data disk" if not state.mounted else "mount it at boot as well",)))
    yield script(_MOUNT, path=mount, unit=unit_of(mount), uuid=uuid)


@operation
def _placed(place: DiskFolder, mount: str) -> Iterator[StringCommand]:
    target = target_of(place, mount)
    state: PlaceState = host.get_fact(PlaceFact, folder=place.folder, target=target)
    if state.settled and not expected(host, f"{UNITS}/{unit_of(place.folder)}"):
        return
    record(Change(place.folder, (next_step(state, target),)))
    yield script(
        _PLACE,
        folder=place.folder,
        target=target,
        disk=mount,
        unit=unit_of(place.folder),
        users=" ".join(place.users),
    )


def next_step(state: PlaceState, target: str) -> str:
    """Return what will be done with a folder, in words."""
    if state.shown:
        return "remove the copy that is left on the system's disk" if state.aside else "mount it at boot"
    if state.aside:
        return f"continue moving it to {target}"
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
        _RELEASE,
        unit=unit,
        folder=folder,
        source=ours.source,
        users=" ".join(ours.users),
        purge="yes" if purge and not ours.is_disk else "",
        units=UNITS,
    )
