"""Progress of long work on the laptop."""

from __future__ import annotations

from typing import Protocol


class ReportProgress(Protocol):
    """A function that receives a message and the progress (0…1), `None` when unknown."""

    def __call__(self, message: str, fraction: float | None = None, /) -> None:
        """Report the progress."""


def silent(message: str, fraction: float | None = None, /) -> None:
    """Ignore the progress."""
