"""How long something takes when nothing else gets in its way."""

from __future__ import annotations

import time
from collections.abc import Callable


def least_seconds(work: Callable[[], object], *, tries: int = 3) -> float:
    """The shortest of some `tries`: on a busy machine any one of them may have had to wait for others."""

    def once() -> float:
        started = time.perf_counter()
        work()
        return time.perf_counter() - started

    return min(once() for _ in range(tries))
