"""Requests and events that are rejected: counted each, logged once a minute of a kind.

Strangers decide how many there are, and must not decide how much is logged.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

LOGGED_EVERY = 60.0

Count = Callable[[str, str], None]


def _uncounted(channel: str, kind: str) -> None:
    """Count nothing."""


class Rejections:
    """`count` is called with channel and kind for every rejection. Kinds are our words, and few."""

    def __init__(self, count: Count = _uncounted, clock: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._clock = clock
        self._logged_at: dict[tuple[str, str], float] = {}
        self._suppressed: dict[tuple[str, str], int] = {}

    def report(self, channel: str, kind: str, message: str, level: int = logging.WARNING) -> None:
        """Count a rejection; log `message`, with the number that was left out, when its kind is due."""
        self._count(channel, kind)
        name, now = (channel, kind), self._clock()
        if now - self._logged_at.get(name, -LOGGED_EVERY) < LOGGED_EVERY:
            self._suppressed[name] = self._suppressed.get(name, 0) + 1
            return
        self._logged_at[name] = now
        suppressed = self._suppressed.pop(name, 0)
        log.log(level, "%s%s", message, f" ({suppressed} more of this kind since)" if suppressed else "")
