"""The components of a host, recorded on the host, so that undeclared components can be removed.

It also finds data that earlier removals kept (see `deploys.ops.paths.data`), so that a purge can delete it.

`/var/lib/clawd/state/components` (root only) has one name on each line. A name is added before the first
operation of its component and removed after the last operation of its removal, so that an interrupted run
never loses a name.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from deploys.ops.paths.data import DATA_FOLDERS, LEFT
from deploys.ops.paths.originals import ORIGINALS
from deploys.registry import BY_NAME, COMPONENTS
from inventory.errors import UNREADABLE, HostError
from provision.assignment import Assignment
from provision.connection.session import Session
from provision.plan import HostPlan
from provision.verification import results

RECORD = "/var/lib/clawd/state/components"
FIND_LEFT = f"ls {LEFT} 2>/dev/null\n" + "".join(
    f"[ ! -d {folder} ] || echo {name}\n" for name, (folder, _) in DATA_FOLDERS.items()
)
"""A script that prints components whose data was kept, by a record or by a folder that only they use."""
STOOD_ON = frozenset({"docker", "nvidia"})
"""Components that others may need for a rollback until their new state serves."""


def read(session: Session, host: str) -> frozenset[str]:
    """Return the components of a host; empty when nothing was ever applied."""
    done = session.run(host, f"[ ! -f {RECORD} ] || cat {RECORD}", timeout=20)
    if not done.succeeded:
        raise HostError(f"{host}: cannot read its components: {done.stderr.strip()}", advice=UNREADABLE)
    return frozenset(done.stdout.split())


def with_data_left(session: Session, host: str) -> frozenset[str]:
    """Return the components that were removed but whose data is still on a host."""
    done = session.run(host, FIND_LEFT, timeout=20)
    if not done.succeeded:
        raise HostError(f"{host}: cannot read which data is left: {done.stderr.strip()}", advice=UNREADABLE)
    return frozenset(done.stdout.split())


def write(session: Session, host: str, names: Iterable[str]) -> None:
    """Record exactly these components. Raises `HostError` when they cannot be written."""
    script = (
        f"umask 077; mkdir -p {RECORD.rpartition('/')[0]} && cat >{RECORD}.new && sync {RECORD}.new "
        f"&& mv {RECORD}.new {RECORD}"
    )
    done = session.run(host, script, stdin="\n".join(sorted(names)), timeout=20)
    if not done.succeeded:
        raise HostError(
            f"{host}: cannot record its components: {done.stderr.strip()}",
            advice="free disk space on /var/lib, then run `up` again",
        )


def add(session: Session, host: str, plan: HostPlan) -> None:
    """Record the components that a host is about to get, before it changes."""
    names = {operation.component for operation in plan.operations if not operation.removes}
    before = read(session, host)
    if not names <= before:
        _begin_originals(session, host, names - before)
        write(session, host, before | names)


def _begin_originals(session: Session, host: str, names: Iterable[str]) -> None:
    """Begin to keep originals of files that these components replace (`deploys.ops.paths.originals`)."""
    folders = " ".join(f"{ORIGINALS}/{name}" for name in sorted(names))
    script = (
        f"umask 077; for folder in {folders}; do mkdir -p $folder && "
        "{ [ -s $folder/since ] || date +%s >$folder/since; } || exit 1; done"
    )
    done = session.run(host, script, timeout=20)
    if not done.succeeded:
        raise HostError(
            f"{host}: cannot keep the originals of replaced files: {done.stderr.strip()}",
            advice="free disk space on /var/lib, then run `up` again",
        )


def settle(session: Session, host: str, assigned: Sequence[Assignment], purge: bool) -> bool:
    """Record the components of a host after a run; return whether the host keeps any state of this program.

    With `purge`, a host with no components left loses all state of this program, including the journal.
    """
    before = read(session, host)
    kept = {item.component.name for item in assigned if item.settings is not None}
    gone = {item.component.name for item in assigned if item.settings is None}
    after = (before | kept) - gone
    forget = " ".join(shlex.quote(f"{LEFT}/{name}") for name in sorted(kept))
    if forget:
        session.run(host, f"rm -f -- {forget}", timeout=20)
    if purge and gone and not after and not with_data_left(session, host):
        session.run(host, "rm -rf /var/lib/clawd", timeout=60)
        return False
    if before != after:
        write(session, host, after)
    results.forget(session, host, gone)
    return True


def removals(
    installed: Iterable[str],
    assigned: Sequence[Assignment],
    selected: Sequence[str] = (),
    left: Iterable[str] = (),
) -> tuple[Assignment, ...]:
    """Return removals of the components that a host should no longer have, in reverse order of installation.

    `selected` are the components that the run is limited to; empty means all. Components in `left` but not in
    `installed` have only data there. Unknown names are ignored.
    """
    wanted, there = {item.component.name for item in assigned}, frozenset(installed)
    known = there | frozenset(left)
    going = {name for name in known if name not in wanted and (not selected or name in selected)}
    return tuple(
        Assignment(component, None, only_data=component.name not in there)
        for component in reversed(COMPONENTS)
        if component.name in going & set(BY_NAME)
    )
