"""systemd units: enabled, and running with exactly the declared files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from pyinfra import host
from pyinfra import state as run
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import expected, operation, record
from deploys.ops.facts import PathFact, UnitFact, UnitState
from deploys.ops.programs import program
from deploys.ops.run_state import Change, run_state
from deploys.ops.shell import script

STAMPS = "/var/lib/clawd/state"
ENABLED = frozenset({"enabled", "static", "alias", "indirect", "generated"})


@dataclass(frozen=True, slots=True)
class Service:
    """A systemd unit as it should run: the files that it reads, and its readiness probe.

    `ready`, `before` and `undo` are shell commands.
    """

    unit: str
    """Its name; one without a suffix is a service."""
    watch: tuple[str, ...] = ()
    """Files of the host that it reads: it is restarted when they differ from those of its last good start."""
    inputs: str = ""
    """Digest of further input that it reads; a change restarts it, too."""
    reload: bool = False
    """Whether a unit that runs is reloaded instead of restarted."""
    ready: str | None = None
    """Succeeds when the unit serves."""
    before: str | None = None
    """Printed ahead of a restart; `ready` has the output in `$before`, to compare the state with."""
    timeout: int = 60
    """Seconds for which `ready` is tried."""
    keep: bool = True
    """Whether copies of the files in `watch` are kept, and restored when a start with other ones fails."""
    undo: str | None = None
    """Puts back what was there when the first start fails, when there are no copies."""

    @property
    def name(self) -> str:
        """Return the unit with its suffix."""
        return self.unit if "." in self.unit else f"{self.unit}.service"


def converge(service: Service, **arguments: Any) -> OperationMeta:
    """Enable a unit and have it run with exactly the files and inputs of `service`.

    A start that succeeds is recorded in a stamp, so that the next run restarts the unit when this one is
    interrupted before. A masked unit is unmasked; when it is no longer needed, it is masked again.

    On failure the operation's error output has the last lines of the unit's journal, and the files of its
    last successful start are restored: of the files in `watch` a copy is kept next to the stamp
    (`good_path`); those that differ are restored, and the unit is started with them. A file that is reached
    through a link is not restored: it is one of several that were switched at once, such as a certificate.
    """
    arguments.setdefault("name", f"Service {service.name.removesuffix('.service')}")
    return _converge(service, **arguments)


def forgotten(unit: str, **arguments: Any) -> OperationMeta:
    """Delete the record of the last start of `unit` (with its suffix), and the copies of its files."""
    arguments.setdefault("name", f"Forget starts of {unit.removesuffix('.service')}")
    return _forgotten(unit, **arguments)


def good_path(unit: str) -> str:
    """Return root's folder (it may be secret) with a copy of the files of `unit`'s last successful start."""
    return f"{STAMPS}/{unit}.good"


def masked_path(unit: str) -> str:
    """Return the file that records that `unit` was masked at first; it is masked again on removal."""
    return f"{STAMPS}/{unit}.masked"


def ready_path(unit: str) -> str:
    """Return the file with the probe, a shell script, with which `unit` was last found ready."""
    return f"{STAMPS}/{unit}.ready"


def stamp_path(unit: str) -> str:
    """Return the file that records the last successful start of `unit`."""
    return f"{STAMPS}/{unit}.stamp"


def stamp_of(inputs: str, watched: Sequence[str] = ()) -> str:
    """Return the stamp of a unit that was started with `inputs` and these `digest  path` lines."""
    return sha256("\n".join((inputs, *watched)).encode()).hexdigest()


@operation
def _converge(service: Service) -> Iterator[StringCommand]:
    unit, watch = service.name, service.watch
    state: UnitState = host.get_fact(UnitFact, unit=unit, stamp=stamp_path(unit), watch=watch)
    stamp = stamp_of(service.inputs, state.watched)
    served = _served(unit)
    changing = {path for path in watch if expected(host, path)} - served
    action = action_for(state, stamp, new_files=bool(changing), reload=service.reload)
    if action is None:
        return
    record(Change(unit, (action,)))
    served |= changing
    yield script(
        _CONVERGE,
        unit=unit,
        stamp=stamp_path(unit),
        good=good_path(unit),
        value=stamp,
        action=action.split()[0],
        ready=service.ready or "",
        before=service.before or "",
        timeout=service.timeout,
        kept="\n".join(watch) if service.keep else "",
        undo=service.undo or "",
        masked=masked_path(unit),
        probe=ready_path(unit),
    )


@operation
def _forgotten(unit: str) -> Iterator[StringCommand]:
    paths = (stamp_path(unit), good_path(unit), masked_path(unit), ready_path(unit))
    if any(host.get_fact(PathFact, path=path).kind != "absent" for path in paths):
        record(Change(paths[0], ("removed",)))
        yield script(_FORGOTTEN, unit=unit, stamp=paths[0], good=paths[1], masked=paths[2], probe=paths[3])


_FORGOTTEN = program("deploys/ops/scripts/forget_unit.sh")


def _served(unit: str) -> set[str]:
    """Return the changed files with which an earlier operation has started `unit`, by phase (plan, apply).

    Two components may watch for the same unit: it is started once.
    """
    return run_state(host).started_with.setdefault((unit, bool(run.is_executing)), set())


def action_for(state: UnitState, stamp: str, *, new_files: bool, reload: bool) -> str | None:
    """Return the action that a unit needs, as text for the plan; `None` when it is as declared."""
    if state.load == "masked":
        return "unmask and start (it was masked by hand)"
    if state.active != "active":
        return f"start (it is {state.active})"
    if new_files or state.stamp != stamp or state.stale:
        reason = "what it reads changes" if new_files else "it runs with something else than declared"
        return f"{'reload' if reload else 'restart'} ({reason})"
    if state.enabled not in ENABLED:
        return f"enable (it is {state.enabled or 'not enabled'})"
    return None


_CONVERGE = program("deploys/ops/scripts/converge.sh")
