"""Who applied what and when, kept on every host so that all laptops see it.

One line of JSON an entry in `/var/lib/clawd/state/journal.jsonl` (root only). Entries name operations,
never contents.
"""

from __future__ import annotations

import getpass
import json
import platform
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Self

from inventory.errors import HostError
from provision.plan import HostResult, Status
from provision.session import Session
from provision.version import program_version

JOURNAL_FILE = "/var/lib/clawd/state/journal.jsonl"


@dataclass(frozen=True, slots=True)
class Entry:
    """One run on one host.

    `inventory` is the inventory's digest, `status` a `plan.Status`, `components` those that the run was
    limited to (none: all).
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
        """The entry of a run that ends now."""
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
        """Whether after this run the host was wholly what this program makes of this inventory."""
        complete = self.status == Status.DONE and not self.components
        return complete and (self.inventory, self.program) == (inventory, program_version())

    def to_line(self) -> str:
        """One line of JSON, ended by a newline."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Reads one line; `None` for a line that was cut off by a crash."""
        try:
            told = json.loads(line)
            lists = {name: tuple(told[name]) for name in ("components", "changed")}
            return cls(**{**told, **lists})
        except (ValueError, KeyError, TypeError):
            return None


def append(session: Session, host: str, entry: Entry) -> None:
    """Adds an entry to a host's journal. Raises `HostError` when it cannot be written."""
    script = f"umask 077; mkdir -p /var/lib/clawd/state && cat >>{JOURNAL_FILE} && sync {JOURNAL_FILE}"
    done = session.run(host, script, stdin=entry.to_line(), timeout=20)
    if not done.succeeded:
        raise HostError(f"{host}: the journal could not be written: {done.stderr.strip()}")


def read(session: Session, host: str, limit: int = 20) -> tuple[Entry, ...]:
    """The last `limit` entries of a host, oldest first; empty when nothing was ever applied."""
    done = session.run(host, f"[ ! -f {JOURNAL_FILE} ] || tail -n {limit} {JOURNAL_FILE}", timeout=20)
    if not done.succeeded:
        raise HostError(f"{host}: the journal could not be read: {done.stderr.strip()}")
    entries = (Entry.from_line(line) for line in done.stdout.splitlines())
    return tuple(entry for entry in entries if entry)
