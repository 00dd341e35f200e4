"""systemd units: enabled, and running with exactly what was declared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

from pyinfra import host
from pyinfra import state as run
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.changes import Change, expected, operation, record
from deploys.ops.facts import UnitFact, UnitState
from deploys.ops.shell import script

STAMPS = "/var/lib/clawd/state"
ENABLED = frozenset({"enabled", "static", "alias", "indirect", "generated"})


def converge(
    unit: str,
    *,
    inputs: str,
    changed: Sequence[OperationMeta] = (),
    watch: Sequence[str] = (),
    reload: bool = False,
    ready: str | None = None,
    before: str | None = None,
    timeout: int = 60,
    undo: str | None = None,
    **arguments: Any,
) -> OperationMeta:
    """`unit` enabled and running with exactly these `inputs`, a digest of all that it reads.

    It is restarted (with `reload`, reloaded when it runs) when one of the `changed` operations changes
    something, or when `inputs` or a file of the host named in `watch` differ from those of its last
    successful start. That start is remembered in a stamp, so a run that is cut off before the restart is made
    good by the next. `ready` is a shell command that succeeds when the unit serves; it is tried for `timeout`
    seconds. It finds in `$before` what the shell command `before` printed ahead of the restart, to tell
    whether things are as well as they were. On failure the last lines of the unit's journal are in the
    operation's error output, and `undo`, a shell command, puts back what served before.
    """
    full = unit if "." in unit else f"{unit}.service"
    arguments.setdefault("name", f"Service {full.removesuffix('.service')}")
    return _converge(
        full, inputs, tuple(changed), tuple(watch), reload, ready, before, timeout, undo, **arguments
    )


def stamp_path(unit: str) -> str:
    """Where the last successful start of `unit` is remembered."""
    return f"{STAMPS}/{unit}.stamp"


def stamp_of(inputs: str, watched: Sequence[str] = ()) -> str:
    """What a unit started with `inputs` and these `digest  path` lines is stamped with."""
    return sha256("\n".join((inputs, *watched)).encode()).hexdigest()


@operation
def _converge(
    unit: str,
    inputs: str,
    changed: tuple[OperationMeta, ...],
    watch: tuple[str, ...],
    reload: bool,
    ready: str | None,
    before: str | None,
    timeout: int,
    undo: str | None,
) -> Iterator[StringCommand]:
    state: UnitState = host.get_fact(UnitFact, unit=unit, stamp=stamp_path(unit), watch=watch)
    stamp = stamp_of(inputs, state.watched)
    served = _served(unit)
    changing = {path for path in watch if expected(host, path)} - served
    new_files = bool(changing) or any(map(_changes, changed))
    action = action_for(state, stamp, new_files=new_files, reload=reload)
    if action is None:
        return
    record(Change(unit, (action,)))
    served |= changing
    yield script(
        _CONVERGE,
        unit=unit,
        stamp=stamp_path(unit),
        value=stamp,
        action=action.split()[0],
        ready=ready or "",
        before=before or "",
        timeout=timeout,
        undo=undo or "",
    )


def _served(unit: str) -> set[str]:
    """The changed files that an earlier operation has started `unit` with; planned and carried out apart.

    Two components may watch for the same unit: it is started once.
    """
    known: dict[tuple[str, bool], set[str]] = host.connector_data.setdefault("clawd_served", {})
    return known.setdefault((unit, bool(run.is_executing)), set())


def _changes(meta: OperationMeta) -> bool:
    """What an operation did, or while that is not known, what it would do."""
    return bool(meta.did_change() if meta.is_complete() else meta.will_change)


def action_for(state: UnitState, stamp: str, *, new_files: bool, reload: bool) -> str | None:
    """What a unit needs, in words for the plan; `None` when it is as declared."""
    if state.active != "active":
        return f"start (it is {state.active})"
    if new_files or state.stamp != stamp or state.stale:
        reason = "what it reads changes" if new_files else "it runs with something else than declared"
        return f"{'reload' if reload else 'restart'} ({reason})"
    if state.enabled not in ENABLED:
        return f"enable (it is {state.enabled or 'not enabled'})"
    return None


_CONVERGE = r"""
set -u
failed() {
    echo "$unit: $1" >&2
    journalctl --no-pager --quiet --lines 20 --unit "$unit" >&2
    [ -z "$undo" ] || sh -c "$undo" >&2
    exit 1
}
quietly() { output=$("$@" 2>&1) || { printf '%s\n' "$output" >&2; return 1; }; }
property() { systemctl show --property "$1" --value "$unit"; }
is_ready() { [ -z "$ready" ] || answer=$(sh -c "$ready" 2>&1 </dev/null); }
rm -f "$stamp"
# Always: systemd does not see by itself that a new folder of drop-ins needs it.
quietly systemctl daemon-reload || exit 1
case $(property UnitFileState) in
    enabled|static|alias|indirect|generated) ;;
    *) quietly systemctl enable "$unit" || failed "cannot be enabled" ;;
esac
case $action in
    enable) before= ;;
    *) [ -z "$before" ] || before=$(sh -c "$before" 2>/dev/null </dev/null) ;;
esac
export before
case $action in
    enable) ;;
    reload) quietly systemctl reload "$unit" || failed "does not reload" ;;
    *)
        systemctl reset-failed "$unit" 2>/dev/null
        quietly systemctl restart "$unit" || failed "does not start"
        ;;
esac
deadline=$(($(date +%s) + timeout))
while :; do
    active=$(property ActiveState)
    [ "$active" != failed ] || failed "fails after its start"
    if [ "$active" = active ] && is_ready; then break; fi
    if [ "$(date +%s)" -ge "$deadline" ]; then
        [ -z "${answer-}" ] || printf 'its probe says: %s\n' "$answer" >&2
        failed "is not ready after $timeout seconds ($active)"
    fi
    sleep 0.3
done
umask 077
mkdir -p "$(dirname "$stamp")"
printf '%s\n' "$value" > "$stamp.new" && mv -f "$stamp.new" "$stamp"
"""
