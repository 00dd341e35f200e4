"""The journal of runs on every host: who applied what and when, readable from all laptops.

`/var/lib/clawd/state/journal.jsonl` (root only) has one line of JSON for each entry. Entries contain names of
operations, never contents.
"""

from __future__ import annotations

import getpass
import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from inventory.errors import UNREADABLE, HostError
from provision.connection.session import Session
from provision.plan import HostResult, Status
from provision.version import program_version

JOURNAL_FILE = "/var/lib/clawd/state/journal.jsonl"


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One run on one host.

    `inventory` is the digest of the inventory, `status` a `plan.Status`, `components` are those that the run
    was limited to (empty: all).
    """

    time: str
    who: str
    program: str
    inventory: str
    status: str
    components: tuple[str, ...]
    changed: tuple[str, ...]
    failure: str = ""
    seconds: float = 0.0

    @classmethod
    def of(cls, result: HostResult, inventory: str, components: tuple[str, ...]) -> Self:
        """Return the entry of a run that ends now."""
        failure = (
            f"{result.failure.component}: {result.failure.operation}" if result.failure else result.message
        )
        return cls(
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            who=f"{getpass.getuser()}@{platform.node()}",
            program=program_version(),
            inventory=inventory,
            status=str(result.status),
            components=components,
            changed=tuple(f"{operation.component}: {operation.name}" for operation in result.changed),
            failure=failure,
            seconds=round(result.seconds, 2),
        )

    def is_whole(self, inventory: str) -> bool:
        """Return whether this run applied all of this inventory with this version of the program."""
        complete = self.status == Status.DONE and not self.components
        return complete and (self.inventory, self.program) == (inventory, program_version())

    def to_line(self) -> str:
        """Return the entry as one line of JSON, ending in a newline."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Return the entry of one line; `None` for a line that a crash truncated."""
        try:
            data = json.loads(line)
            lists = {name: tuple(data[name]) for name in ("components", "changed")}
            return cls(**{**data, **lists})
        except (ValueError, KeyError, TypeError):
            return None


def append(session: Session, host: str, entry: JournalEntry) -> None:
    """Append an entry to a host's journal. Raises `HostError` when it cannot be written."""
    script = f"umask 077; mkdir -p /var/lib/clawd/state && cat >>{JOURNAL_FILE} && sync {JOURNAL_FILE}"
    done = session.run(host, script, stdin=entry.to_line(), timeout=20)
    if not done.succeeded:
        raise HostError(f"{host}: cannot write the journal: {done.stderr.strip()}", advice=UNREADABLE)


def read(session: Session, host: str, limit: int = 20) -> tuple[JournalEntry, ...]:
    """Return the last `limit` entries of a host, oldest first; empty when nothing was ever applied."""
    done = session.run(host, f"[ ! -f {JOURNAL_FILE} ] || tail -n {limit} {JOURNAL_FILE}", timeout=20)
    if not done.succeeded:
        raise HostError(f"{host}: cannot read the journal: {done.stderr.strip()}", advice=UNREADABLE)
    entries = (JournalEntry.from_line(line) for line in done.stdout.splitlines())
    return tuple(entry for entry in entries if entry)
