"""Delays between retries."""

from __future__ import annotations

LONGEST = 300.0


def backoff(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row: 1, 2, 4 … up to five minutes."""
    return float(min(LONGEST, 2.0 ** (min(failures, 16) - 1)))
