"""Plans and results as values.

A `Plan` is computed from facts. It contains for every host the operations in order, which of them would
change something, and the lines of files that would differ. A `Result` contains their outcome. Neither
contains a secret: differences of secret files have no lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from inventory.errors import with_hint


@dataclass(frozen=True, slots=True)
class FileChange:
    """The difference of one file: a unified diff, empty when the file is secret or binary."""

    path: str
    diff: tuple[str, ...] = ()
    secret: bool = False


@dataclass(frozen=True, slots=True)
class PlannedOperation:
    """One operation on one host, and whether it would change something there."""

    component: str
    name: str
    changes: bool
    files: tuple[FileChange, ...] = ()
    removes: bool = False
    """Whether it removes a component that the inventory no longer declares."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """The reason why a host is not verified: its last checks `failed`, or none ran since a change."""

    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class HostPlan:
    """The operations of one host in order; `error` when the host could not be planned."""

    host: str
    operations: tuple[PlannedOperation, ...] = ()
    error: str | None = None
    unverified: Unverified | None = None
    """Why its last verification did not pass; `None` when it passed."""

    @property
    def changing(self) -> tuple[PlannedOperation, ...]:
        """Return only the operations that would change something."""
        return tuple(operation for operation in self.operations if operation.changes)


@dataclass(frozen=True, slots=True)
class Plan:
    """The operations of a run on every host."""

    hosts: tuple[HostPlan, ...]

    @property
    def changes(self) -> int:
        """Return the number of operations on all hosts that would change something."""
        return sum(len(host.changing) for host in self.hosts)

    @property
    def errors(self) -> tuple[HostPlan, ...]:
        """Return the hosts that could not be planned."""
        return tuple(host for host in self.hosts if host.error)

    @property
    def unverified(self) -> dict[str, Unverified]:
        """Return the hosts whose last verification did not pass, with the reason; they are not converged."""
        return {host.host: host.unverified for host in self.hosts if host.unverified}

    @property
    def changing_hosts(self) -> tuple[str, ...]:
        """Return the names of the hosts where something would change."""
        return tuple(host.host for host in self.hosts if host.changing)

    def for_host(self, name: str) -> HostPlan:
        """Return the plan of one host. Raises `KeyError` when the plan does not have it."""
        for host in self.hosts:
            if host.host == name:
                return host
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as data for JSON, as printed by `plan --json`."""
        return {
            "changes": self.changes,
            "hosts": [
                {
                    "host": host.host,
                    "error": host.error,
                    "unverified": asdict(host.unverified) if host.unverified else None,
                    "unchanged": len(host.operations) - len(host.changing),
                    "operations": [asdict(operation) for operation in host.changing],
                }
                for host in self.hosts
            ],
        }


class Status(StrEnum):
    """The outcome of a run on one host."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    ROLLED_BACK = "rolled back"
    NOT_BEGUN = "not begun"


@dataclass(frozen=True, slots=True)
class OperationFailure:
    """The operation at which a host stopped, with the end of its output."""

    component: str
    operation: str
    output: tuple[str, ...]
    advice: str = ""

    def __str__(self) -> str:
        shown = "\n".join(f"    {line}" for line in self.output)
        return with_hint(f"{self.component}: {self.operation} failed\n{shown}", self.advice)


@dataclass(frozen=True, slots=True)
class HostResult:
    """The result of a run on one host. `changed` are the operations that changed something."""

    host: str
    status: Status
    changed: tuple[PlannedOperation, ...] = ()
    unchanged: int = 0
    failure: OperationFailure | None = None
    message: str = ""
    seconds: float = 0.0

    def after(self, earlier: HostResult) -> HostResult:
        """Return this result of a later pass together with that of the earlier one."""
        return replace(
            self,
            changed=(*earlier.changed, *self.changed),
            unchanged=earlier.unchanged,
            message="\n".join(dict.fromkeys(filter(None, (earlier.message, self.message)))),
            seconds=earlier.seconds + self.seconds,
        )


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a run on every host."""

    hosts: tuple[HostResult, ...]

    @property
    def succeeded(self) -> bool:
        """Return whether the run succeeded on every host."""
        return all(host.status is Status.DONE for host in self.hosts)

    @property
    def changed(self) -> int:
        """Return the number of operations on all hosts that changed something."""
        return sum(len(host.changed) for host in self.hosts)

    @property
    def exit_code(self) -> int:
        """Return 0 for done, 130 for interrupted, 4 for rolled back, 1 otherwise."""
        return exit_code(host.status for host in self.hosts)

    def after(self, earlier: Result) -> Result:
        """Return this result together with that of an earlier pass over these and perhaps other hosts."""
        later = {host.host: host for host in self.hosts}
        return Result(
            tuple(later[host.host].after(host) if host.host in later else host for host in earlier.hosts)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the result as data for JSON, as printed by `up --json`."""
        return {
            "changed": self.changed,
            "succeeded": self.succeeded,
            "hosts": [
                {
                    "host": host.host,
                    "status": str(host.status),
                    "changed": [f"{operation.component}: {operation.name}" for operation in host.changed],
                    "unchanged": host.unchanged,
                    "failure": asdict(host.failure) if host.failure else None,
                    "message": host.message,
                    "seconds": round(host.seconds, 2),
                }
                for host in self.hosts
            ],
        }


def exit_code(statuses: Iterable[Status]) -> int:
    """Return the exit code of a run with these outcomes: interrupted, else rolled back, else failed."""
    seen = set(statuses)
    if Status.INTERRUPTED in seen:
        return 130
    if Status.ROLLED_BACK in seen:
        return 4
    return 0 if seen <= {Status.DONE} else 1
