"""What bots found by their policy, from the lines that they log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from inventory.errors import UNREADABLE, HostError
from provision.connection.session import Session

MOST_READ = 20_000
"""Lines that are read from a host."""
_LINE = re.compile(
    r"(?P<time>\S+) \[INFO\] policy: (?P<stage>question|answer|outbound) of "
    r"(?P<message>(?:(?P<channel>\S+) message (?P<number>[0-9]{1,18})|a message)): "
    r"(?P<action>[a-z]+) by rule (?P<rule>.+?)(?:, entry (?P<entry>.+))?, "
    r"(?P<times>[0-9]+) times, version (?P<version>\S+)"
)


@dataclass(frozen=True, slots=True)
class PolicyRecord:
    """One entry of a rule that was found in a question, in an answer, or in an outbound text."""

    time: str
    stage: str
    message: str
    number: int | None
    action: str
    rule: str
    entry: str
    times: int
    version: str

    @classmethod
    def from_line(cls, line: str) -> Self | None:
        """Return the record of a line of the bot's log; `None` for another line."""
        found = _LINE.fullmatch(line.strip())
        if found is None:
            return None
        return cls(
            time=found["time"],
            stage=found["stage"],
            message=found["message"],
            number=int(found["number"]) if found["number"] else None,
            action=found["action"],
            rule=found["rule"],
            entry=found["entry"] or "",
            times=int(found["times"]),
            version=found["version"],
        )


def read(session: Session, host: str, message: int | None, limit: int) -> tuple[PolicyRecord, ...]:
    """Return the last `limit` records of the bot on `host`, of one message or of all, oldest first.

    Raises `HostError` when its journal cannot be read.
    """
    script = (
        "journalctl --namespace=clawd-bot -u clawd-bot --no-pager -q -o cat >/dev/null -n 0 || exit 1; "
        "journalctl --namespace=clawd-bot -u clawd-bot --no-pager -q -o cat"
        f" | grep -F '[INFO] policy: ' | tail -n {MOST_READ}; true"
    )
    done = session.run(host, script, timeout=60)
    if not done.succeeded:
        raise HostError(f"{host}: cannot read the bot's journal: {done.stderr.strip()}", advice=UNREADABLE)
    records = (PolicyRecord.from_line(line) for line in done.stdout.splitlines())
    wanted = [each for each in records if each and (message is None or each.number == message)]
    return tuple(wanted[-limit:])
