"""Progress of a run. The command line displays it; tests record it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from provision.plan import HostResult, PlannedOperation


class RunProgress(Protocol):
    """A receiver of progress from several hosts at once."""

    def step(self, name: str) -> None:
        """Report the beginning of a step of the pipeline."""

    def detail(self, message: str, fraction: float | None = None) -> None:
        """Report the progress of a longer step on the laptop; `fraction` in 0…1 when known."""

    def warn(self, message: str) -> None:
        """Report a warning, which does not stop the run."""

    def asking(self) -> AbstractContextManager[object]:
        """Return a context in which the display is paused while the user is asked something."""

    def planning(self, host: str, component: str) -> None:
        """Report that a component is compared with a host."""

    def applying(self, host: str, operations: int) -> None:
        """Report that a host begins to apply that many operations."""

    def operation(self, host: str, operation: PlannedOperation) -> None:
        """Report that a host begins an operation."""

    def pushed(self, host: str, dest: str, sent: int, total: int) -> None:
        """Report how many bytes of a large file were sent to a host."""

    def finished(self, result: HostResult) -> None:
        """Report the result of a host."""


class Silent:
    """A receiver that ignores all progress."""

    def step(self, name: str) -> None:
        """Do nothing."""

    def detail(self, message: str, fraction: float | None = None) -> None:
        """Do nothing."""

    def warn(self, message: str) -> None:
        """Do nothing."""

    def asking(self) -> AbstractContextManager[object]:
        """Do nothing."""
        return nullcontext()

    def planning(self, host: str, component: str) -> None:
        """Do nothing."""

    def applying(self, host: str, operations: int) -> None:
        """Do nothing."""

    def operation(self, host: str, operation: PlannedOperation) -> None:
        """Do nothing."""

    def pushed(self, host: str, dest: str, sent: int, total: int) -> None:
        """Do nothing."""

    def finished(self, result: HostResult) -> None:
        """Do nothing."""
