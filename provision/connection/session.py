"""The hosts of a run over pyinfra. This module makes pyinfra's State; `evaluation` and `execution` use it.

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
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import gevent
import pyinfra
from gevent.event import Event
from pyinfra.api import Config, Inventory, QuoteString, State, StringCommand
from pyinfra.api.state import StateStage
from pyinfra.connectors.base import BaseConnector
from pyinfra.context import ctx_state

from deploys.artifacts import Supplies
from deploys.ops.run_state import run_state
from inventory.errors import ConnectError, HostError, message_of
from inventory.load import LoadedInventory
from inventory.model import Inventory as InventoryOfRun
from provision.assignment import Assignment
from provision.connection.connector import LinkConnector
from provision.connection.evaluation import Evaluation
from provision.connection.execution import Execution
from provision.connection.fact_prefetch import FactPrefetch, record_of
from provision.connection.link import BROKEN, HostConnection, RemoteProcess
from provision.local.ask import NoTerminal, SecretPrompt
from provision.local.concurrency import for_each, outcomes
from provision.local.run_log import RunLog
from provision.plan import HostPlan, HostResult, Plan, Status
from provision.progress import RunProgress
from provision.ssh.config import SshConfig
from provision.ssh.connect_errors import CONNECT_TIMEOUT, connect_error
from provision.ssh.route import route_to

T = TypeVar("T")


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
                timeout + link.slow_start,
                HostError(
                    f"{name}: a command did not end within {timeout:.0f} s",
                    advice="log in and check the load of the host (`uptime`, `dmesg`), then try again",
                ),
            ):
                succeeded, output = self._host(name).connector.run_shell_command(
                    command, _sudo=link.uses_sudo, _stdin=[stdin] if stdin is not None else None
                )
        except BROKEN as error:
            raise HostError(
                f"{name}: the connection was lost: {error}",
                advice="check the network and that the host is running, then run the command again",
            ) from error
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
            prefetch = FactPrefetch(host, record_of(self._loaded, name))
            evaluation = Evaluation(self._state, host, self._log, prefetch)
            return evaluation.plan(assignments[name], supplies[name], progress)

        planned = outcomes(self.hosts, prepare_one)
        return Plan(
            tuple(
                outcome if isinstance(outcome, HostPlan) else HostPlan(name, error=message_of(outcome))
                for name, outcome in planned.items()
            )
        )

    def execute(
        self, plan: Plan, progress: RunProgress, stopping: Event, safety: Safety | None = None
    ) -> tuple[HostResult, ...]:
        """Apply what was prepared on all hosts of `plan` concurrently.

        A host stops at its first failed operation; when all have ended, `safety` may roll back. When
        `stopping` is set, every host stops after its current operation. Hosts without changes are skipped.
        """
        self._state.set_stage(StateStage.Execute)
        self._state.is_executing = True

        def execute_one(name: str) -> HostResult:
            started = time.monotonic()
            host_plan = plan.for_host(name)
            progress.applying(name, len(host_plan.operations))
            result = HostResult(name, Status.DONE, unchanged=len(host_plan.operations))
            if host_plan.changing:
                if safety:
                    safety.arm(host_plan)
                host, link, checks = self._host(name), self.links[name], self._before_operations
                execution = Execution(self._state, host, link, self._log, progress, stopping, checks)
                result = execution.run(host_plan)
            result = replace(result, seconds=time.monotonic() - started)
            progress.finished(result)
            return result

        ended = outcomes([host.host for host in plan.hosts], execute_one)
        results = tuple(
            outcome
            if isinstance(outcome, HostResult)
            else HostResult(name, Status.FAILED, message=message_of(outcome))
            for name, outcome in ended.items()
        )
        return safety.settle(results) if safety else results

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
