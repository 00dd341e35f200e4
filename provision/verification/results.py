"""Results of the last verification of a host, stored on the host for all laptops.

`/var/lib/clawd/state/verified/` (root only) has one line of JSON for each component. A component is `due`
from before its first change, or from the beginning of a verification, until its checks have ended. An
interrupted run, a run with `--no-verify` and an interrupted verification leave it due. A host is converged
when the last verification of all its components passed.
"""

from __future__ import annotations

import getpass
import json
import platform
import secrets
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal, Self

from deploys.ops.programs import program
from deploys.ops.removal import VERIFIED
from deploys.ops.shell import assignments
from inventory.errors import UNREADABLE, HostError
from provision.connection.session import Session
from provision.plan import HostPlan, Unverified

FOLDER = VERIFIED
MOST_NAMED = 3
"""Maximum number of failed checks in a message."""


@dataclass(frozen=True, slots=True)
class Record:
    """The last verification of one component: its state, when and by whom, and the checks that failed.

    `run` is the verification or change that wrote it; another one that runs at the same time does not
    overwrite it.
    """

    state: Literal["due", "failed", "passed"]
    time: str
    who: str
    run: str
    failed: tuple[str, ...] = ()

    @classmethod
    def now(cls, state: Literal["due", "failed", "passed"], run: str, failed: Iterable[str] = ()) -> Self:
        """Return a record with the current time and user."""
        time = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(state, time, f"{getpass.getuser()}@{platform.node()}", run, tuple(failed))

    def to_line(self) -> str:
        """Return the record as one line of JSON without a newline."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Return the record of one line; `None` for a line that a crash truncated."""
        try:
            values = json.loads(line)
            record = cls(**{**values, "failed": tuple(values["failed"])})
        except (ValueError, KeyError, TypeError):
            return None
        return record if record.state in ("due", "failed", "passed") else None


def new_run() -> str:
    """Return a name for one change or verification."""
    return secrets.token_hex(8)


READ = f"""cd {FOLDER} 2>/dev/null || exit 0
for name in *; do
    [ ! -f "$name" ] || {{ printf '%s ' "$name"; head -n 1 "$name"; }}
done
"""
"""A script that prints a line `COMPONENT RECORD` for each component."""


def parse(printed: str) -> dict[str, Record]:
    """Return the records that `READ` printed, by component."""
    rows = [line.partition(" ") for line in printed.splitlines()]
    found = {name: Record.from_line(line) for name, _, line in rows}
    return {name: record for name, record in found.items() if record is not None}


def writing(records: Mapping[str, Record], *, of_run: str = "") -> str:
    """Return a script that writes these records, only on a host that this program has set up.

    With `of_run`, it writes only those whose current record is from that run. It fails when one cannot be
    written.
    """
    words = (word for name, record in sorted(records.items()) for word in (name, record.to_line()))
    run = json.dumps(of_run) if of_run else ""
    return f"set -- {shlex.join(words)}\n{assignments(folder=FOLDER, run=run)}{_WRITE}"


_WRITE = program("provision/verification/scripts/write_results.sh")


def read(session: Session, host: str) -> dict[str, Record]:
    """Return the records of a host by component. Raise `HostError` when they cannot be read."""
    done = session.run(host, READ, timeout=20)
    if not done.succeeded:
        raise HostError(
            f"{host}: cannot read its last verification: {done.stderr.strip()}", advice=UNREADABLE
        )
    return parse(done.stdout)


def reopen(session: Session, host: str, plan: HostPlan) -> None:
    """Mark the components that are about to change, and those that failed last, as due.

    Raises `HostError` when that cannot be written.
    """
    failed = {name for name, record in read(session, host).items() if record.state == "failed"}
    changing = {operation.component for operation in plan.changing if not operation.removes}
    run = new_run()
    script = f"mkdir -p -m 700 {FOLDER}\n" + writing(
        {name: Record.now("due", run) for name in changing | failed}
    )
    done = session.run(host, script, timeout=20)
    if not done.succeeded:
        raise HostError(
            f"{host}: nothing was changed: cannot store its state: {done.stderr.strip()}",
            advice="free disk space on /var/lib, then run `up` again",
        )


def forget(session: Session, host: str, components: Iterable[str]) -> None:
    """Remove the records of components that were removed."""
    names = " ".join(shlex.quote(name) for name in sorted(components))
    if names:
        session.run(host, f"cd {FOLDER} 2>/dev/null && rm -f -- {names}; true", timeout=20)


def unverified(records: Mapping[str, Record], components: Iterable[str]) -> Unverified | None:
    """Return why these components are not verified; `None` when the last checks of all passed."""
    states = {name: records.get(name) for name in components}
    failed = {name: record for name, record in states.items() if record and record.state == "failed"}
    if failed:
        checks = [f"{name}: {check}" for name, record in failed.items() for check in record.failed]
        more = f" and {len(checks) - MOST_NAMED} more" if len(checks) > MOST_NAMED else ""
        last = max(record.time for record in failed.values())
        return Unverified(
            f"its last verification failed ({', '.join(checks[:MOST_NAMED])}{more}; {last})", failed=True
        )
    due = [name for name, record in states.items() if record is None or record.state == "due"]
    if not due:
        return None
    which = "" if len(due) == len(states) else f": {', '.join(due)}"
    return Unverified(f"it was not verified since the last change{which}")
