"""How many messages a user may send."""

from __future__ import annotations

from bisect import insort
from enum import Enum

WINDOW = 60.0
FORGET_EVERY = 4096


class Verdict(Enum):
    """What to do with a message."""

    ALLOW = "allow"
    EXPLAIN = "explain"  # over the limit for the first time: say so
    IGNORE = "ignore"  # over the limit, and told already


class RateLimiter:
    """At most `limit` messages of a user in any minute. Refused messages do not count.

    It goes by the time a message was received, so a backlog after a pause is judged as it arrived.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._allowed: dict[tuple[str, str], list[float]] = {}
        self._told: set[tuple[str, str]] = set()
        self._until_sweep = FORGET_EVERY

    def judge(self, channel: str, user: str, at: float) -> Verdict:
        """Judge a message received `at` (seconds), and count it when it is allowed."""
        self._sweep(at)
        who = (channel, user)
        recent = [time for time in self._allowed.get(who, ()) if time > at - WINDOW]
        if len(recent) < self._limit:
            insort(recent, at)
            self._allowed[who] = recent
            self._told.discard(who)
            return Verdict.ALLOW
        if who in self._told:
            return Verdict.IGNORE
        self._told.add(who)
        return Verdict.EXPLAIN

    def _sweep(self, now: float) -> None:
        """Now and then forget users who have been silent."""
        self._until_sweep -= 1
        if self._until_sweep > 0:
            return
        self._until_sweep = FORGET_EVERY
        gone = [who for who, times in self._allowed.items() if times[-1] <= now - WINDOW]
        for who in gone:
            del self._allowed[who]
            self._told.discard(who)
