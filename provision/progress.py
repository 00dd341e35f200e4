"""What a run tells while it goes on. The command line shows it; tests record it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from provision.plan import HostResult, PlannedOperation


class Progress(Protocol):
    """Receives what happens, from several hosts at once."""

    def step(self, name: str) -> None:
        """A step of the pipeline begins."""

    def detail(self, message: str, fraction: float | None = None) -> None:
        """How far a longer step on the laptop is; `fraction` in 0…1 when known."""

    def warn(self, message: str) -> None:
        """Something that does not stand in the way, and should be known."""

    def asking(self) -> AbstractContextManager[object]:
        """Keeps the screen still while a person is asked something."""

    def planning(self, host: str, component: str) -> None:
        """A component is compared with a host."""

    def applying(self, host: str, operations: int) -> None:
        """A host begins to apply that many operations."""

    def operation(self, host: str, operation: PlannedOperation) -> None:
        """A host begins an operation."""

    def pushed(self, host: str, dest: str, sent: int, total: int) -> None:
        """So many bytes of a large file are on a host."""

    def finished(self, result: HostResult) -> None:
        """A host is through."""


class Silent:
    """Shows nothing."""

    def step(self, name: str) -> None:
        """Does nothing."""

    def detail(self, message: str, fraction: float | None = None) -> None:
        """Does nothing."""

    def warn(self, message: str) -> None:
        """Does nothing."""

    def asking(self) -> AbstractContextManager[object]:
        """Does nothing."""
        return nullcontext()

    def planning(self, host: str, component: str) -> None:
        """Does nothing."""

    def applying(self, host: str, operations: int) -> None:
        """Does nothing."""

    def operation(self, host: str, operation: PlannedOperation) -> None:
        """Does nothing."""

    def pushed(self, host: str, dest: str, sent: int, total: int) -> None:
        """Does nothing."""

    def finished(self, result: HostResult) -> None:
        """Does nothing."""
