"""How long work on the laptop is told to whoever watches."""

from __future__ import annotations

from typing import Protocol


class Tell(Protocol):
    """Called with a sentence and how far the work is (0…1), `None` when that is not known."""

    def __call__(self, message: str, fraction: float | None = None, /) -> None:
        """Shows it."""


def silent(message: str, fraction: float | None = None, /) -> None:
    """Tells nobody."""
