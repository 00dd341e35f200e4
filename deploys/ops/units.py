"""Removal of systemd units."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import operation, record
from deploys.ops.facts import UnitFact, UnitState
from deploys.ops.paths import originals
from deploys.ops.removal import ForeignUnitFact
from deploys.ops.run_state import Change, run_state
from deploys.ops.services import good_path, masked_path, ready_path, stamp_path
from deploys.ops.shell import script


def absent(unit: str, *, file: bool = True, **arguments: Any) -> OperationMeta:
    """Stop and disable `unit` (with its suffix), and delete the records of its starts.

    With `file`, its file in /etc/systemd/system is removed; a unit of a Debian package keeps its own. A unit
    of a package that was there before us is not stopped: it is restarted with the original files, after the
    removal of the component has put them back.
    """
    arguments.setdefault("name", f"No service {unit.removesuffix('.service')}")
    return _absent(unit, file, originals.owner_of(unit), **arguments)


@operation
def _absent(unit: str, file: bool, component: str) -> Iterator[StringCommand]:
    state: UnitState = host.get_fact(UnitFact, unit=unit, stamp=stamp_path(unit))
    if not file and host.get_fact(ForeignUnitFact, unit=unit, owner=component):
        if state.stamp:
            run_state(host).resuming_units.setdefault(component, []).append(unit)
            record(Change(unit, ("no longer ours: its package was there before, and it keeps running",)))
            notes = " ".join((stamp_path(unit), good_path(unit), ready_path(unit), masked_path(unit)))
            yield script("rm -rf $notes", notes=notes)
        return
    there = state.load != "not-found" if file else state.active == "active" or state.enabled == "enabled"
    if not there:
        return
    record(Change(unit, ("stop and remove" if file else "stop and disable",)))
    path = f"/etc/systemd/system/{unit}" if file else ""
    yield script(
        _ABSENT,
        unit=unit,
        stamp=stamp_path(unit),
        good=good_path(unit),
        masked=masked_path(unit),
        probe=ready_path(unit),
        path=path,
    )


_ABSENT = r"""
set -eu
systemctl disable --now "$unit"
# Else one that failed last is listed as failed although it is no more.
systemctl reset-failed "$unit" 2>/dev/null || true
[ ! -f "$masked" ] || systemctl mask "$unit"
rm -rf "$stamp" "$good" "$good.old" "$masked" "$probe"
[ -z "$path" ] || { rm -f "$path"; systemctl daemon-reload; }
"""
