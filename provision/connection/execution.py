"""Execution of the operations of one host, in the order in which they were evaluated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gevent.event import Event
from pyinfra.api import State
from pyinfra.api.operations import run_host_op
from pyinfra.context import ctx_host

from deploys.ops.run_state import run_state
from inventory.errors import message_of
from provision.connection.error_hints import advice_for
from provision.connection.link import HostConnection
from provision.local.run_log import RunLog
from provision.plan import HostPlan, HostResult, OperationFailure, PlannedOperation, Status
from provision.progress import RunProgress

OUTPUT_LINES = 20
AFTER_LOSS = (
    "it is unknown whether the operation was completed; no later operation was started. When the host can be "
    "reached again, run `up` to complete what is missing"
)


@dataclass(frozen=True, slots=True)
class Execution:
    """Runs the operations of one host and reports them to `progress`."""

    state: State
    host: Any
    link: HostConnection
    log: RunLog
    progress: RunProgress
    stopping: Event
    """When set, the host stops after its current operation."""
    checks: Sequence[Callable[[str], None]]
    """Called with the host before every operation; an exception fails the operation."""

    def run(self, plan: HostPlan) -> HostResult:
        """Run the operations of a plan; stop at the first that fails."""
        with ctx_host.use(self.host):
            return self._operations(plan)

    def _operations(self, plan: HostPlan) -> HostResult:
        changed: list[PlannedOperation] = []
        unchanged = 0
        for operation, op_hash in zip(plan.operations, tuple(self.host.op_hash_order), strict=True):
            if self.stopping.is_set():
                return HostResult(plan.host, Status.INTERRUPTED, tuple(changed), unchanged)
            if failure := self._operation(operation, op_hash):
                return HostResult(plan.host, Status.FAILED, tuple(changed), unchanged, failure)
            if self._meta(op_hash).did_change():
                changed.append(operation)
            else:
                unchanged += 1
        return HostResult(plan.host, Status.DONE, tuple(changed), unchanged)

    def _operation(self, operation: PlannedOperation, op_hash: str) -> OperationFailure | None:
        """Run one operation; return why it failed, or `None`."""
        name = self.host.name
        self.progress.operation(name, operation)
        state = run_state(self.host)
        state.report_push_progress = partial(self.progress.pushed, name)
        state.report_waiting = lambda what: self.progress.detail(f"{name}: {what}")
        try:
            for check in self.checks:
                check(name)
            succeeded = run_host_op(self.state, self.host, op_hash)
        except Exception as error:
            if (lost := self._lost(operation)) is not None:
                return lost
            self.log.exception(f"{name}: {operation.component}: {operation.name}")
            return OperationFailure(operation.component, operation.name, (message_of(error),))
        return None if succeeded else self._failure(operation, op_hash)

    def _failure(self, operation: PlannedOperation, op_hash: str) -> OperationFailure:
        if (lost := self._lost(operation)) is not None:
            return lost
        meta = self._meta(op_hash)
        printed = [line for line in (*meta.stdout_lines, *meta.stderr_lines) if line.strip()]
        output = tuple(printed[-OUTPUT_LINES:]) or self.log.tail(self.host.name)
        return OperationFailure(operation.component, operation.name, output, advice_for(output))

    def _lost(self, operation: PlannedOperation) -> OperationFailure | None:
        """Return the failure if the connection was lost during the operation; else `None`."""
        if not self.link.opened or not (why := self.link.lost):
            return None
        said = (f"the connection to {self.host.name} was lost during this operation: {why}",)
        return OperationFailure(operation.component, operation.name, said, AFTER_LOSS)

    def _meta(self, op_hash: str) -> Any:
        return self.state.ops[self.host][op_hash].operation_meta
