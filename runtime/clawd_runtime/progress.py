"""Progress of long work."""

from __future__ import annotations

from collections.abc import Callable

ReportFraction = Callable[[float], None]
"""A function that receives the part (0…1) of the work that is done."""


def ignored(fraction: float, /) -> None:
    """Ignore the progress."""
