"""Which components a host has, remembered on the host, so that one that is dropped can be taken off again.

Also whose data earlier removals have kept there, see `deploys.ops.data`, so that a purge finds them.

A name a line in `/var/lib/clawd/state/components` (root only). A name is added before the first operation
of its component and taken away after the last one of its removal: an interrupted run leaves it too long at
most.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from deploys.ops.data import DATA_FOLDERS, LEFT
from deploys.ops.originals import ORIGINALS
from deploys.registry import BY_NAME, COMPONENTS
from inventory.errors import HostError
from provision import verified
from provision.plan import HostPlan
from provision.session import Assignment, Session

RECORD = "/var/lib/clawd/state/components"
FIND_LEFT = f"ls {LEFT} 2>/dev/null\n" + "".join(
    f"[ ! -d {folder} ] || echo {name}\n" for name, (folder, _) in DATA_FOLDERS.items()
)
"""Prints components whose data were kept: by a note, or by a folder that nothing else has."""
STOOD_ON = frozenset({"docker", "nvidia"})
"""Components that the old state of others needs until their new one serves: it may have to be put back."""


def read(session: Session, host: str) -> frozenset[str]:
    """The components of a host; none when nothing was ever applied."""
    done = session.run(host, f"[ ! -f {RECORD} ] || cat {RECORD}", timeout=20)
    if not done.succeeded:
        raise HostError(f"{host}: its components could not be read: {done.stderr.strip()}")
    return frozenset(done.stdout.split())


def with_data_left(session: Session, host: str) -> frozenset[str]:
    """Return the components that are gone and whose data are still on a host."""
    done = session.run(host, FIND_LEFT, timeout=20)
    if not done.succeeded:
        raise HostError(f"{host}: the data that is left there could not be read: {done.stderr.strip()}")
    return frozenset(done.stdout.split())


def write(session: Session, host: str, names: Iterable[str]) -> None:
    """Remembers exactly these components. Raises `HostError` when that cannot be written."""
    script = (
        f"umask 077; mkdir -p {RECORD.rpartition('/')[0]} && cat >{RECORD}.new && sync {RECORD}.new "
        f"&& mv {RECORD}.new {RECORD}"
    )
    done = session.run(host, script, stdin="\n".join(sorted(names)), timeout=20)
    if not done.succeeded:
        raise HostError(
            f"{host}: its components could not be noted: {done.stderr.strip()}",
            advice="free disk space on /var/lib, then run `up` again",
        )


def add(session: Session, host: str, plan: HostPlan) -> None:
    """Remembers, before a host changes, the components that it is about to get."""
    names = {operation.component for operation in plan.operations if not operation.removes}
    before = read(session, host)
    if not names <= before:
        _begin_originals(session, host, names - before)
        write(session, host, before | names)


def _begin_originals(session: Session, host: str, names: Iterable[str]) -> None:
    """Have what these components replace kept from now on; see `deploys.ops.originals`."""
    folders = " ".join(f"{ORIGINALS}/{name}" for name in sorted(names))
    script = (
        f"umask 077; for folder in {folders}; do mkdir -p $folder && "
        "{ [ -s $folder/since ] || date +%s >$folder/since; } || exit 1; done"
    )
    done = session.run(host, script, timeout=20)
    if not done.succeeded:
        raise HostError(
            f"{host}: no room to keep what is replaced: {done.stderr.strip()}",
            advice="free disk space on /var/lib, then run `up` again",
        )


def settle(session: Session, host: str, assigned: Sequence[Assignment], purge: bool) -> bool:
    """Remembers, when a host is done, what it has got and forgets what was removed; whether anything is kept.

    With `purge`, a host that has nothing left loses what this program remembers there, its journal too.
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
    verified.forget(session, host, gone)
    return True


def removals(
    installed: Iterable[str],
    assigned: Sequence[Assignment],
    selected: Sequence[str] = (),
    left: Iterable[str] = (),
) -> tuple[Assignment, ...]:
    """What a host has and should no longer have, in the order of removal: the reverse of building.

    `selected` are the components that the run is limited to; empty means all. Of those in `left` and not
    `installed`, only data are there. A name that no component has (any more) is left alone.
    """
    wanted, there = {item.component.name for item in assigned}, frozenset(installed)
    known = there | frozenset(left)
    going = {name for name in known if name not in wanted and (not selected or name in selected)}
    return tuple(
        Assignment(component, None, only_data=component.name not in there)
        for component in reversed(COMPONENTS)
        if component.name in going & set(BY_NAME)
    )
