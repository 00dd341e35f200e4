"""Evaluation of components on one host with pyinfra: which operations they have, without running them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra.api import State
from pyinfra.context import ctx_host

from deploys.artifacts import Supplies
from deploys.ops.diff import collected
from deploys.ops.paths.data import purge_left
from inventory.errors import ClawdError, message_of
from provision.assignment import Assignment
from provision.connection.fact_prefetch import FactPrefetch
from provision.local.run_log import RunLog
from provision.plan import FileChange, HostPlan, PlannedOperation
from provision.progress import RunProgress


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The operations of one host, which grow with every component that is evaluated."""

    state: State
    host: Any
    log: RunLog
    prefetch: FactPrefetch
    owners: list[Assignment] = field(default_factory=list)
    """For each operation of the host, the component that it belongs to."""

    def plan(self, assignments: Sequence[Assignment], supplies: Supplies, progress: RunProgress) -> HostPlan:
        """Evaluate components in order and return their operations; stop at the first that fails."""
        self.host.data.supplies = supplies
        names = [assignment.component.name for assignment in assignments]
        with ctx_host.use(self.host), self.prefetch.answering(names):
            for assignment in assignments:
                progress.planning(self.host.name, assignment.component.name)
                self.prefetch.evaluating(assignment.component.name)
                error = self._evaluate(assignment)
                if error:
                    return HostPlan(self.host.name, self._operations(), error)
        self.prefetch.remember()
        return HostPlan(self.host.name, self._operations())

    def _evaluate(self, assignment: Assignment) -> str | None:
        """Add the operations of one component; return why it could not be evaluated, or `None`."""
        component = assignment.component
        before = len(self.host.op_hash_order)
        try:
            _call(self.host, assignment)
        except ClawdError as error:
            return f"{component.name}: {error}"
        except Exception as error:
            self.log.exception(f"{self.host.name}: cannot evaluate {component.name}")
            return "\n    ".join(
                (f"cannot evaluate {component.name}: {message_of(error)}", *self.log.tail(self.host.name))
            )
        finally:
            self.owners.extend([assignment] * (len(self.host.op_hash_order) - before))
        if self.host in self.state.failed_hosts:
            return f"{component.name}: cannot read facts\n" + "\n".join(self.log.tail(self.host.name))
        return None

    def _operations(self) -> tuple[PlannedOperation, ...]:
        return tuple(
            self._operation(assignment, op_hash)
            for assignment, op_hash in zip(self.owners, self.host.op_hash_order, strict=True)
            if op_hash in self.state.ops[self.host]
        )

    def _operation(self, assignment: Assignment, op_hash: str) -> PlannedOperation:
        names = self.state.get_op_meta(op_hash).names
        changes = tuple(
            FileChange(change.path, () if change.secret else change.diff, change.secret)
            for change in collected(self.host, op_hash)
        )
        return PlannedOperation(
            assignment.component.name,
            ", ".join(sorted(name.rsplit(" | ", 1)[-1] for name in names)),
            self.state.ops[self.host][op_hash].operation_meta.will_change,
            changes,
            removes=assignment.settings is None,
        )


def _call(host: Any, assignment: Assignment) -> None:
    """Call the function of the component that adds the operations."""
    component = assignment.component
    if assignment.settings is not None:
        setattr(host.data, component.name, assignment.settings)
        component.apply()
    elif assignment.only_data:
        purge_left(component.name)
    else:
        component.remove()
