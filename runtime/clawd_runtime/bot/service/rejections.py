"""Rejected requests and events: each is counted, and one per kind and minute is logged.

Foreign clients decide how many there are; they must not be able to fill the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

log = logging.getLogger(__name__)

LOGGED_EVERY = 60.0

Count = Callable[[str, str], None]


def _uncounted(channel: str, kind: str) -> None:
    """Do nothing."""


class OnceAMinute(logging.Filter):
    """A filter that passes a message of a library once a minute, with the number of suppressed ones."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._sampling = LogSampler(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether to log the record."""
        suppressed = self._sampling.due((record.name, str(record.msg)))
        if suppressed:
            record.msg = f"{record.msg} ({suppressed} more of this kind since)"
        return suppressed is not None


class LogSampler:
    """A sampler of messages by kind: logs the first one, then one every `LOGGED_EVERY` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[Hashable, float] = {}
        self._suppressed: dict[Hashable, int] = {}

    def due(self, kind: Hashable) -> int | None:
        """Return how many of `kind` were suppressed since the last logged one; None to suppress this one."""
        now = self._clock()
        if now - self._logged_at.get(kind, -LOGGED_EVERY) < LOGGED_EVERY:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        self._logged_at[kind] = now
        return self._suppressed.pop(kind, 0)


class Rejections:
    """Counts and logs rejections.

    `count` is called with channel and kind for every rejection. Kinds are few and never foreign input.
    """

    def __init__(self, count: Count = _uncounted, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._sampling = LogSampler(clock)

    def report(self, channel: str, kind: str, message: str, level: int = logging.WARNING) -> None:
        """Count a rejection; log `message` with the number of suppressed ones if its kind is due."""
        self._count(channel, kind)
        suppressed = self._sampling.due((channel, kind))
        if suppressed is not None:
            log.log(level, "%s%s", message, f" ({suppressed} more of this kind since)" if suppressed else "")
