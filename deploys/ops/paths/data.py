"""Data that exist only on a host: kept when their component is removed, deleted by a purge.

A removal that keeps data notes their paths, so that a later purge finds them although nothing else is left
of the component: a line `PATH<TAB>WHAT<TAB>UNIT<TAB>USER` each, in a file of the component. Paths are
folders, or `DEVICE:FOLDER` for a folder on a data disk that is no longer mounted. When the unit, which the
removal deleted, exists again, another program was installed and owns the data. A disk that is in
use again, or listed in /etc/fstab, is the administrator's: nothing on it is touched, nor on a disk whose
folders are not noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand, deploy
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script
from deploys.settings import purging

Given = tuple[tuple[str, str, str, str], ...]
"""Lines of a note: path, what it is, unit, user."""

LEFT = "/var/lib/clawd/state/left"
"""Folder with one file for each component whose removal kept data."""
FSTAB = "/etc/fstab"
TAKEN = "stays: the disk is in use, or in /etc/fstab, or what of it is clawd-provision's is not noted"
DATA_FOLDERS: Mapping[str, tuple[str, str]] = {
    "runtime": ("/var/lib/clawd-bot", "conversations"),
    "prometheus": ("/var/lib/clawd-prometheus", "metrics"),
    "alertmanager": ("/var/lib/clawd-alertmanager", "silences and notifications of Alertmanager"),
}
"""By component, a folder that no other program uses, and its content; found even without a note."""


@dataclass(frozen=True, slots=True)
class Data:
    """Data on a host: their path, a description for people, the size in KiB where it could be measured.

    `noted`: by a removal. `used`: by a unit of another program. `user`: the login that they belonged to.
    """

    path: str
    what: str
    size: int | None = None
    noted: bool = False
    used: bool = False
    user: str = ""

    @property
    def taken(self) -> bool:
        """Return whether the data are on a disk that is now used for something else."""
        return self.used and self.path.startswith("/dev/")

    @property
    def shown(self) -> str:
        """Content and size, for a plan."""
        return f"{self.what}, {_readable(self.size)}"


def kept_or_purged(
    component: str,
    data: Mapping[str, str],
    *,
    unit: str = "",
    user: str = "",
    released: tuple[str, ...] = (),
    **arguments: Any,
) -> OperationMeta:
    """Note the paths of the `data` (description by path) of a component that is removed, or purge them.

    `unit` is that of the component's program, `user` a login that a later purge removes as well. `released`
    are devices that the component itself uses until then.
    """
    given = tuple((path, what, unit, user) for path, what in data.items())
    found: tuple[Data, ...] = host.get_fact(DataFact, component=component, given=given, released=released)
    what = ", ".join(dict.fromkeys(item.what for item in found)) or component
    arguments.setdefault("name", f"{'Delete' if purging() else 'Keep'} data: {what}")
    return (_purged if purging() else _kept)(component, given, False, released, **arguments)


@deploy("Data that earlier removals have kept")
def purge_left(component: str) -> None:
    """Delete the data that earlier removals of `component` have kept, unless they are in use."""
    own = DATA_FOLDERS.get(component)
    given = ((*own, "", ""),) if own else ()
    found: tuple[Data, ...] = host.get_fact(DataFact, component=component, given=given)
    free = [item for item in found if not item.used]
    taken = [item for item in found if item.taken]
    what = ", ".join(dict.fromkeys(item.what for item in free or taken)) or component
    _purged(component, given, True, (), name=f"{'Delete' if free or not taken else 'Leave'} data: {what}")


class DataFact(Fact):
    """The existing data of a component: at the given paths, and at those that a removal has noted."""

    def command(self, component: str, given: Given, released: tuple[str, ...] = ()) -> str:
        """Return a script that prints a line of columns, separated by tabs, for each."""
        lines = "\n".join("\t".join(columns) for columns in given)
        values = {"given": lines, "note": f"{LEFT}/{component}", "fstab": FSTAB}
        return assignments(**values, released="\n".join(released)) + _DATA

    @staticmethod
    def default() -> tuple[Data, ...]:
        """Return no data."""
        return ()

    def process(self, output: list[str]) -> tuple[Data, ...]:
        """Turn the lines into `Data`."""
        rows = [line.split("\t") for line in output if line]
        return tuple(
            Data(
                path,
                what,
                None if size == "-" else int(size),
                noted == "noted",
                used == "used",
                "" if user == "-" else user,
            )
            for path, what, size, noted, used, user in rows
        )


_DATA = program("deploys/ops/paths/scripts/data.sh")


@operation
def _kept(
    component: str, given: tuple[tuple[str, str, str, str], ...], _left: bool, released: tuple[str, ...]
) -> Iterator[StringCommand]:
    found: tuple[Data, ...] = host.get_fact(DataFact, component=component, given=given, released=released)
    new = [item for item in found if not item.noted]
    for item in new:
        record(Change(item.path, (f"stays: {item.shown}; `--purge` deletes it",)))
    if new:
        paths = {item.path for item in new}
        lines = "\n".join("\t".join(columns) for columns in given if columns[0] in paths)
        yield script(_KEEP, note=f"{LEFT}/{component}", lines=lines)


_KEEP = program("deploys/ops/paths/scripts/note_data.sh")


@operation
def _purged(component: str, given: Given, left: bool, released: tuple[str, ...]) -> Iterator[StringCommand]:
    found: tuple[Data, ...] = host.get_fact(DataFact, component=component, given=given, released=released)
    going = [item for item in found if not item.taken and not (left and item.used)]
    taken = [item for item in found if item.taken]
    for item in going:
        record(Change(item.path, (f"deleted for good: {item.shown}",)))
    for item in taken:
        record(Change(item.path, (TAKEN,)))
    if going or taken:
        paths = "\n".join(item.path for item in going)
        # A removal handles its logins itself.
        users = " ".join(dict.fromkeys(item.user for item in going if item.user)) if left else ""
        note = f"{LEFT}/{component}"
        yield script(_PURGE, note=note, paths=paths, users=users, fstab=FSTAB)


_PURGE = program("deploys/ops/paths/scripts/purge.sh")


def _readable(kib: int | None) -> str:
    if kib is None:
        return "size not known"
    for unit, size in (("GiB", 1 << 20), ("MiB", 1 << 10)):
        if kib >= size:
            return f"{kib / size:.1f} {unit}"
    return f"{kib} KiB"
