"""What a run would do, and what it did, as values.

A `Plan` is computed from facts and holds for every host the operations in order, which of them would
change something, and the lines of files that would differ. A `Result` says what became of them. Neither
holds a secret: differences of secret files carry no lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class FileChange:
    """How one file would differ: a unified diff, or nothing to show when it is secret or binary."""

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
    """Whether it takes a component off that the inventory no longer names."""


@dataclass(frozen=True, slots=True)
class Unverified:
    """Why a host does not count as verified: its last checks `failed`, or there were none since a change."""

    reason: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class HostPlan:
    """The operations of one host in the order in which they run; `error` when it could not be planned."""

    host: str
    operations: tuple[PlannedOperation, ...] = ()
    error: str | None = None
    unverified: Unverified | None = None
    """Why its last verification does not count as passed; `None` when it passed."""

    @property
    def changing(self) -> tuple[PlannedOperation, ...]:
        """Only the operations that would change something."""
        return tuple(operation for operation in self.operations if operation.changes)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do on every host."""

    hosts: tuple[HostPlan, ...]

    @property
    def changes(self) -> int:
        """How many operations would change something, on all hosts together."""
        return sum(len(host.changing) for host in self.hosts)

    @property
    def errors(self) -> tuple[HostPlan, ...]:
        """The hosts that could not be planned."""
        return tuple(host for host in self.hosts if host.error)

    @property
    def unverified(self) -> dict[str, Unverified]:
        """The hosts whose last verification did not pass, so that they are not converged, and why."""
        return {host.host: host.unverified for host in self.hosts if host.unverified}

    @property
    def changing_hosts(self) -> tuple[str, ...]:
        """The names of the hosts where something would change."""
        return tuple(host.host for host in self.hosts if host.changing)

    def for_host(self, name: str) -> HostPlan:
        """The plan of one host. Raises `KeyError` when the plan does not have it."""
        for host in self.hosts:
            if host.host == name:
                return host
        raise KeyError(name)

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-able data: what `plan --json` prints."""
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
    """How a host came out of a run."""

    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    ROLLED_BACK = "rolled back"
    NOT_BEGUN = "not begun"


@dataclass(frozen=True, slots=True)
class OperationFailure:
    """The operation at which a host stopped, with the end of what it printed."""

    component: str
    operation: str
    output: tuple[str, ...]
    advice: str = ""

    def __str__(self) -> str:
        shown = "\n".join(f"    {line}" for line in self.output)
        advice = f"\n  → {self.advice}" if self.advice else ""
        return f"{self.component}: {self.operation} failed\n{shown}{advice}"


@dataclass(frozen=True, slots=True)
class HostResult:
    """What a run did on one host. `changed` names the operations that changed something."""

    host: str
    status: Status
    changed: tuple[PlannedOperation, ...] = ()
    unchanged: int = 0
    failure: OperationFailure | None = None
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What a run did on every host."""

    hosts: tuple[HostResult, ...]

    @property
    def succeeded(self) -> bool:
        """Whether every host was done."""
        return all(host.status is Status.DONE for host in self.hosts)

    @property
    def changed(self) -> int:
        """How many operations changed something, on all hosts together."""
        return sum(len(host.changed) for host in self.hosts)

    @property
    def exit_code(self) -> int:
        """0 done, 130 interrupted, 4 rolled back, 1 otherwise."""
        return exit_code(host.status for host in self.hosts)

    def after(self, earlier: Result) -> Result:
        """Return this result together with that of an earlier pass over the same hosts."""
        before = {host.host: host for host in earlier.hosts}
        return Result(
            tuple(
                replace(
                    host,
                    changed=(*before[host.host].changed, *host.changed),
                    seconds=before[host.host].seconds + host.seconds,
                )
                if host.host in before
                else host
                for host in self.hosts
            )
        )

    def to_json(self) -> dict[str, Any]:
        """The result as JSON-able data: what `up --json` prints."""
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
    """The exit code of a run whose hosts came out as `statuses`: the most telling one wins."""
    seen = set(statuses)
    if Status.INTERRUPTED in seen:
        return 130
    if Status.ROLLED_BACK in seen:
        return 4
    return 0 if seen <= {Status.DONE} else 1
