"""A progress bar for long work on the laptop."""

from __future__ import annotations

import time
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from provision.reporting.terminal import moves

APPEARS_AFTER = 2.0
"""Seconds after which work is long enough for a bar."""
LINE_EVERY = 30.0
"""Seconds between two lines about the same step where lines cannot be redrawn."""


class ProgressBar:
    """A bar that appears once work takes two seconds and leaves nothing behind.

    Where lines cannot be redrawn, each step prints a line, and long ones another every 30 seconds. It is a
    `ReportProgress`.
    """

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._begun = time.monotonic()
        self._bar: Progress | None = None
        self._last = ""
        self._next_line = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, message: str, fraction: float | None = None, /) -> None:
        """Report the progress."""
        now = time.monotonic()
        if self._quiet or now - self._begun < APPEARS_AFTER:
            return
        if moves(self._console):
            self._draw(message, fraction)
        elif message != self._last or now >= self._next_line:
            self._next_line = now + LINE_EVERY
            part = "" if fraction is None else f" {fraction:.0%}"
            self._console.print(f"{message}{part}", soft_wrap=True, markup=False)
        self._last = message

    def _draw(self, message: str, fraction: float | None) -> None:
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f} %", markup=False),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.start()
        if message != self._last:
            for task in self._bar.task_ids:
                self._bar.remove_task(task)
            self._bar.add_task(message, total=None if fraction is None else 1.0)
        self._bar.update(self._bar.task_ids[0], completed=fraction or 0.0)
