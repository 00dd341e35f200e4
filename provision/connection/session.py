"""The hosts of a run over pyinfra. The only module that uses pyinfra's State.

pyinfra merges the operations of hosts by their position, which is wrong when hosts have different components.
Here every host has its own operations (`loop_position` makes their identity unique to the host) and executes
them in its own greenlet, so that no host waits for another.

`gevent.monkey.patch_all()` must have run before this module is imported; `provision.local.concurrency`
does it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import gevent
import pyinfra
from gevent.event import Event
from pyinfra.api import Config, Inventory, QuoteString, State, StringCommand
from pyinfra.api.operations import run_host_op
from pyinfra.api.state import StateStage
from pyinfra.connectors.base import BaseConnector
from pyinfra.context import ctx_host, ctx_state

from deploys.artifacts import Supplies
from deploys.component import Component, ComponentSettings
from deploys.ops.diff import collected
from deploys.ops.paths.data import purge_left
from deploys.ops.run_state import run_state
from inventory.errors import ClawdError, ConnectError, HostError
from inventory.load import LoadedInventory
from inventory.model import Inventory as InventoryOfRun
from provision.connection.connector import LinkConnector
from provision.connection.error_hints import advice_for
from provision.connection.fact_prefetch import FactPrefetch, record_of
from provision.connection.link import BROKEN, HostConnection, RemoteProcess
from provision.local.ask import NoTerminal, SecretPrompt
from provision.local.concurrency import for_each, outcomes
from provision.local.run_log import RunLog
from provision.plan import FileChange, HostPlan, HostResult, OperationFailure, Plan, PlannedOperation, Status
from provision.progress import RunProgress
from provision.ssh.config import SshConfig
from provision.ssh.connect_errors import CONNECT_TIMEOUT, connect_error
from provision.ssh.route import route_to

T = TypeVar("T")
OUTPUT_LINES = 20
AFTER_LOSS = (
    "it is unknown whether the operation was completed; no later operation was started. When the host can be "
    "reached again, run `up` to complete what is missing"
)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One component with its settings on one host; `None` when it is to be removed."""

    component: Component
    settings: ComponentSettings | None
    only_data: bool = False
    """Whether it was removed before, and only its data is left."""


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The output of a command on a host, and whether its exit status was 0."""

    succeeded: bool
    stdout: str
    stderr: str


class Safety(Protocol):
    """A rollback: it saves the state of a host and restores it when a change fails."""

    def arm(self, plan: HostPlan) -> None:
        """Prepare before the first operation. Raises when the host must not be changed."""

    def settle(self, results: tuple[HostResult, ...]) -> tuple[HostResult, ...]:
        """Roll back failures when all hosts of a batch have ended; return the final results."""


class Session:
    """Connections to the hosts of one run; a context manager that closes them.

    Args:
        loaded: the inventory.
        hosts: names of the hosts of this run.
        log: where the details of the run are written.
        additional: further hosts to connect to, which are queried but not changed.
        ask: prompts the user for passphrases and sudo passwords.
        connector: pyinfra connector class to use instead of SSH; for tests on scripted hosts.

    Raises `ConnectError` when `~/.ssh/config` cannot be read.

    """

    def __init__(
        self,
        loaded: LoadedInventory,
        hosts: Sequence[str],
        log: RunLog,
        *,
        additional: Sequence[str] = (),
        ask: SecretPrompt | None = None,
        connector: type[BaseConnector] | None = None,
    ) -> None:
        self._loaded = loaded
        self._log = log
        self._additional = frozenset(additional)
        self.links = links_to(loaded, (*hosts, *additional), ask or NoTerminal())
        names = [(name, _pyinfra_data(link)) for name, link in self.links.items()]
        hosts_of_run = Inventory((names, {}))
        for host in hosts_of_run:
            host.connector_cls = connector or LinkConnector
            run_state(host).link = self.links[host.name]
        self._state = State(hosts_of_run, Config(CONNECT_TIMEOUT=CONNECT_TIMEOUT))
        self._owners: dict[str, list[Assignment]] = {name: [] for name in self.links}
        self._before_operations: list[Callable[[str], None]] = []
        pyinfra.is_cli = False
        ctx_state.set(self._state)
        for position, host in enumerate(self._state.inventory):
            host.loop_position = [position]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts of the run that are connected and have not failed."""
        return tuple(name for name in self.reached if name not in self._additional)

    @property
    def reached(self) -> tuple[str, ...]:
        """Return all connected hosts that have not failed, including the additional ones."""
        return tuple(host.name for host in self._state.inventory if host in self._state.active_hosts)

    def connect(self) -> dict[str, ConnectError]:
        """Connect to all hosts concurrently; return the errors of those that cannot be reached."""
        self._state.set_stage(StateStage.Connect)

        def connect_one(name: str) -> None:
            host = self._host(name)
            try:
                host.connect(raise_exceptions=True)
            except ConnectError:
                raise
            except Exception as error:
                raise connect_error(self.links[name].route, error) from error
            self._state.activate_host(host)

        ended = outcomes(self.links, connect_one)
        return {name: error for name, error in ended.items() if isinstance(error, ConnectError)}

    def close(self) -> None:
        """Close every connection, which also releases the locks held over them."""
        for link in self.links.values():
            link.close()

    # Plain commands

    def run(self, name: str, script: str, *, stdin: str | None = None, timeout: float = 60) -> CommandResult:
        """Run a POSIX shell script as root on one host.

        Raises `HostError` when it does not end within `timeout` seconds or the connection breaks.
        """
        command = StringCommand("sh", "-c", QuoteString(script))
        link = self.links[name]
        if link.uses_sudo:
            link.become_root()
        try:
            with gevent.Timeout(
                timeout + link.slow_start, HostError(f"{name}: no answer within {timeout:.0f} s")
            ):
                succeeded, output = self._host(name).connector.run_shell_command(
                    command, _sudo=link.uses_sudo, _stdin=[stdin] if stdin is not None else None
                )
        except BROKEN as error:
            raise HostError(f"{name}: the connection broke ({error})") from error
        return CommandResult(succeeded, output.stdout, output.stderr)

    def require_root(self, name: str) -> None:
        """Raise `HostError` when commands cannot run as root. Prompts for a password if sudo requires one."""
        self.links[name].become_root()

    def check_alive(self) -> None:
        """Raise `ConnectError` when the connection to a host, and with it its lock, is lost."""
        for name in self.hosts:
            self.links[name].check()

    def start_as_root(self, name: str, script: str) -> RemoteProcess:
        """Start a POSIX shell script as root on a host; its standard input stays open."""
        return self.links[name].start(f"sh -c {shlex.quote(script)}", root=True)

    def before_operations(self, check: Callable[[str], None]) -> None:
        """Call `check(host)` before every operation; an exception fails the operation."""
        self._before_operations.append(check)

    def set_data(self, name: str, key: str, value: object) -> None:
        """Set pyinfra data of a host, `host.data.KEY` in deploys."""
        setattr(self._host(name).data, key, value)

    def when_connected_again(self, name: str, then: Callable[[], None]) -> None:
        """Call `then` after an operation has rebooted a host and connected again.

        Everything that used the old connection has ended by then. An exception fails the operation.
        """
        run_state(self._host(name)).after_reconnect.append(then)

    @property
    def inventory(self) -> InventoryOfRun:
        """Return the inventory of the run."""
        return self._loaded.inventory

    def user(self, name: str) -> str:
        """Return the login used on a host."""
        return self.links[name].user

    def transport(self, name: str) -> Any:
        """Return the host's paramiko transport. Raises `ConnectError` when the connection is lost."""
        return self.links[name].transport()

    def everywhere(self, function: Callable[[str], T], hosts: Iterable[str] | None = None) -> dict[str, T]:
        """Call `function(host)` for all hosts concurrently and return its results.

        Raises the error of the first host (in inventory order) for which it raised one.
        """
        return for_each(self.hosts if hosts is None else hosts, function)

    # Plan and apply

    def prepare(
        self,
        assignments: Mapping[str, Sequence[Assignment]],
        supplies: Mapping[str, Supplies],
        progress: RunProgress,
    ) -> Plan:
        """Evaluate all components on all hosts concurrently, without changing anything."""
        self._state.set_stage(StateStage.Prepare)

        def prepare_one(name: str) -> HostPlan:
            host = self._host(name)
            host.data.supplies = supplies[name]
            prefetch = FactPrefetch(host, record_of(self._loaded, name))
            components = [assignment.component.name for assignment in assignments[name]]
            with ctx_host.use(host), prefetch.answering(components):
                for assignment in assignments[name]:
                    progress.planning(name, assignment.component.name)
                    prefetch.evaluating(assignment.component.name)
                    if assignment.settings is not None:
                        setattr(host.data, assignment.component.name, assignment.settings)
                    error = self._evaluate(name, assignment)
                    if error:
                        return HostPlan(name, self._planned(name), error)
            prefetch.remember()
            return HostPlan(name, self._planned(name))

        planned = outcomes(self.hosts, prepare_one)
        return Plan(tuple(_plan_or_error(name, outcome) for name, outcome in planned.items()))

    def execute(
        self, plan: Plan, progress: RunProgress, stopping: Event, safety: Safety | None = None
    ) -> tuple[HostResult, ...]:
        """Apply what was prepared on all hosts of `plan` concurrently.

        A host stops at its first failed operation; when all have ended, `safety` may roll back. When
        `stopping` is set, every host stops after its current operation. Hosts without changes are skipped.
        """
        self._state.set_stage(StateStage.Execute)
        self._state.is_executing = True
        ended = outcomes(
            [host.host for host in plan.hosts],
            lambda name: self._execute_one(plan.for_host(name), progress, stopping, safety),
        )
        results = tuple(
            outcome
            if isinstance(outcome, HostResult)
            else HostResult(name, Status.FAILED, message=_readable(outcome))
            for name, outcome in ended.items()
        )
        return safety.settle(results) if safety else results

    def _evaluate(self, name: str, assignment: Assignment) -> str | None:
        """Add one component's operations to a host; return why it could not be evaluated, or `None`."""
        host, component = self._host(name), assignment.component
        before = len(host.op_hash_order)
        try:
            if assignment.only_data:
                purge_left(component.name)
            elif assignment.settings is None:
                component.remove()
            else:
                component.apply()
        except ClawdError as error:
            return f"{component.name}: {error}"
        except Exception as error:
            self._log.exception(f"{name}: cannot evaluate {component.name}")
            tail = self._log.tail(name)
            return f"cannot evaluate {component.name}: {_readable(error)}" + "".join(
                f"\n    {line}" for line in tail
            )
        finally:
            self._owners[name] += [assignment] * (len(host.op_hash_order) - before)
        if host in self._state.failed_hosts:
            return f"{component.name}: cannot read facts\n" + "\n".join(self._log.tail(name))
        return None

    def _planned(self, name: str) -> tuple[PlannedOperation, ...]:
        host = self._host(name)
        return tuple(
            self._planned_operation(host, assignment, op_hash)
            for assignment, op_hash in zip(self._owners[name], host.op_hash_order, strict=True)
            if op_hash in self._state.ops[host]
        )

    def _planned_operation(self, host: Any, assignment: Assignment, op_hash: str) -> PlannedOperation:
        meta = self._state.ops[host][op_hash].operation_meta
        changes = tuple(
            FileChange(change.path, () if change.secret else change.diff, change.secret)
            for change in collected(host, op_hash)
        )
        return PlannedOperation(
            assignment.component.name,
            self._name(op_hash),
            meta.will_change,
            changes,
            removes=assignment.settings is None,
        )

    def _name(self, op_hash: str) -> str:
        names = self._state.get_op_meta(op_hash).names
        return ", ".join(sorted(name.rsplit(" | ", 1)[-1] for name in names))

    def _execute_one(
        self, plan: HostPlan, progress: RunProgress, stopping: Event, safety: Safety | None
    ) -> HostResult:
        started = time.monotonic()
        host = self._host(plan.host)
        result = HostResult(plan.host, Status.DONE, unchanged=len(plan.operations))
        progress.applying(plan.host, len(plan.operations))
        if plan.changing:
            if safety:
                safety.arm(plan)
            with ctx_host.use(host):
                result = self._walk(plan, progress, stopping)
        result = replace(result, seconds=time.monotonic() - started)
        progress.finished(result)
        return result

    def _walk(self, plan: HostPlan, progress: RunProgress, stopping: Event) -> HostResult:
        host = self._host(plan.host)
        changed: list[PlannedOperation] = []
        unchanged = 0
        for operation, op_hash in zip(plan.operations, tuple(host.op_hash_order), strict=True):
            if stopping.is_set():
                return HostResult(plan.host, Status.INTERRUPTED, tuple(changed), unchanged)
            progress.operation(plan.host, operation)
            state = run_state(host)
            state.report_push_progress = partial(progress.pushed, plan.host)
            state.report_waiting = lambda what: progress.detail(f"{plan.host}: {what}")
            try:
                for check in self._before_operations:
                    check(plan.host)
                succeeded = run_host_op(self._state, host, op_hash)
            except Exception as error:
                if (lost := self._lost_within(plan.host, operation)) is not None:
                    return HostResult(plan.host, Status.FAILED, tuple(changed), unchanged, lost)
                self._log.exception(f"{plan.host}: {operation.component}: {operation.name}")
                failure = OperationFailure(operation.component, operation.name, (_readable(error),))
                return HostResult(plan.host, Status.FAILED, tuple(changed), unchanged, failure)
            meta = self._state.ops[host][op_hash].operation_meta
            if not succeeded:
                failure = self._failure(plan.host, operation, meta)
                return HostResult(plan.host, Status.FAILED, tuple(changed), unchanged, failure)
            if meta.did_change():
                changed.append(operation)
            else:
                unchanged += 1
        return HostResult(plan.host, Status.DONE, tuple(changed), unchanged)

    def _lost_within(self, name: str, operation: PlannedOperation) -> OperationFailure | None:
        """Return the failure if the connection was lost during the operation; else `None`."""
        link = self.links[name]
        if not link.opened or not (why := link.lost):
            return None
        said = (f"the connection to {name} was lost during this operation: {why}",)
        return OperationFailure(operation.component, operation.name, said, AFTER_LOSS)

    def _failure(self, name: str, operation: PlannedOperation, meta: Any) -> OperationFailure:
        if (lost := self._lost_within(name, operation)) is not None:
            return lost
        printed = [line for line in (*meta.stdout_lines, *meta.stderr_lines) if line.strip()]
        output = tuple(printed[-OUTPUT_LINES:]) or self._log.tail(name)
        return OperationFailure(operation.component, operation.name, output, advice_for(output))

    # pyinfra

    def _host(self, name: str) -> Any:
        return self._state.inventory.get_host(name)


def links_to(loaded: LoadedInventory, hosts: Iterable[str], ask: SecretPrompt) -> dict[str, HostConnection]:
    """Return connections to hosts, not yet open. Raises `ConnectError` when `~/.ssh/config` is unreadable."""
    config, inventory = SshConfig(), loaded.declared

    def link(name: str) -> HostConnection:
        password = inventory.hosts[name].sudo_password
        given = password.get_secret_value() if password else None
        return HostConnection(route_to(inventory, name, config), ask, given)

    return for_each(hosts, link)


def _pyinfra_data(link: HostConnection) -> dict[str, Any]:
    """Return the connection settings of a host for pyinfra and the components."""
    hop = link.route.host
    return {
        "ssh_hostname": hop.address,
        "ssh_port": hop.port,
        "ssh_user": hop.user,
        "_sudo": link.uses_sudo,
    }


def _plan_or_error(name: str, outcome: HostPlan | Exception) -> HostPlan:
    return outcome if isinstance(outcome, HostPlan) else HostPlan(name, error=_readable(outcome))


def _readable(error: BaseException) -> str:
    return str(error) if isinstance(error, ClawdError) else f"{type(error).__name__}: {error}"
