"""Requests and events that are rejected: counted each, logged once a minute of a kind.

Strangers decide how many there are; they must not decide how much is logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable

log = logging.getLogger(__name__)

LOGGED_EVERY = 60.0

Count = Callable[[str, str], None]


def _uncounted(channel: str, kind: str) -> None:
    """Count nothing."""


class OnceAMinute(logging.Filter):
    """Lets a message of a library through once a minute, with the number that was left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._sampling = Sampling(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter.filter`."""
        suppressed = self._sampling.due((record.name, str(record.msg)))
        if suppressed:
            record.msg = f"{record.msg} ({suppressed} more of this kind since)"
        return suppressed is not None


class Sampling:
    """What of a kind is logged: the first, and then one every `LOGGED_EVERY` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_at: dict[Hashable, float] = {}
        self._suppressed: dict[Hashable, int] = {}

    def due(self, kind: Hashable) -> int | None:
        """Return how many of `kind` were left out since the last one; None to leave this out."""
        now = self._clock()
        if now - self._logged_at.get(kind, -LOGGED_EVERY) < LOGGED_EVERY:
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        self._logged_at[kind] = now
        return self._suppressed.pop(kind, 0)


class Rejections:
    """`count` is called with channel and kind for every rejection. Kinds are our words, and few."""

    def __init__(self, count: Count = _uncounted, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._sampling = Sampling(clock)

    def report(self, channel: str, kind: str, message: str, level: int = logging.WARNING) -> None:
        """Count a rejection; log `message`, with the number that was left out, when its kind is due."""
        self._count(channel, kind)
        suppressed = self._sampling.due((channel, kind))
        if suppressed is not None:
            log.log(level, "%s%s", message, f" ({suppressed} more of this kind since)" if suppressed else "")
