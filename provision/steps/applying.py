"""Apply a plan to the hosts."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from gevent.event import Event

from provision import component_state
from provision.connection.error_hints import NO_PACKAGE
from provision.connection.session import Session
from provision.plan import HostPlan, HostResult, Plan, Result
from provision.preflight import doctor
from provision.progress import RunProgress
from provision.rollout import former_addresses, plan_changes, stages
from provision.rollout.draining import Drain
from provision.rollout.roll import roll, unreached
from provision.rollout.rollback import Rollback
from provision.run import Run
from provision.verification import results


def apply(
    run: Run, session: Session, planned: Plan, places: former_addresses.Former = MappingProxyType({})
) -> Result:
    """Apply a plan: in batches on hosts whose bots serve, one by one in an Elasticsearch cluster.

    The first Ctrl-C stops every host after its current operation, the second immediately.
    """
    run.progress.step("apply")
    inventory, stopping = run.loaded.inventory, Event()

    def running(unit: str, changes: Callable[[HostPlan], bool]) -> list[str]:
        hosts = [host.host for host in planned.hosts if changes(host)]
        found = session.everywhere(partial(_runs, session, unit), hosts)
        return [host for host in hosts if found[host]]

    serving = running("clawd-bot", plan_changes.changes_bot)
    nodes = running("elasticsearch", plan_changes.changes_node)
    passing = running("nginx", plan_changes.changes_upstreams)
    renewing = [host.host for host in planned.hosts if plan_changes.changes_authority(host)]
    lacking = former_addresses.lacking(session, inventory, serving)
    if serving:  # an nginx that is new would find no bot where it is declared
        passing = [host.host for host in planned.hosts if plan_changes.changes_upstreams(host)]

    def execute(part: Plan) -> tuple[HostResult, ...]:
        session.everywhere(partial(_note_change, session, part), part.changing_hosts)
        return session.execute(part, run.progress, stopping, Rollback(session))

    with _stop_on_interrupt(stopping, run.progress):
        return Result(
            roll(
                stages.stages(
                    inventory,
                    planned,
                    stages.HostStates(
                        serving=serving, nodes=nodes, passing=passing, renewing=renewing, lacking=lacking
                    ),
                ),
                planned,
                execute,
                lambda host: Drain(session, inventory, host, former_addresses.ports(places, host)),
                run.progress,
                lambda host: unreached(session, inventory, planned, host),
            )
        )


def explained_failures(run: Run, session: Session, result: Result) -> Result:
    """Return `result` with failures of declared packages reported as a plan reports them.

    A plan does not check packages when the host's index is old; the run has updated the index since.
    """

    def explained(host: HostResult) -> HostResult:
        failure = host.failure
        if failure is None or failure.component != "base" or not NO_PACKAGE.search("\n".join(failure.output)):
            return host
        lines = doctor.unknown_packages(run.loaded.inventory, session, host.host, run.loaded.place)
        return replace(host, failure=replace(failure, output=lines, advice="")) if lines else host

    return Result(tuple(map(explained, result.hosts)))


def _note_change(session: Session, part: Plan, host: str) -> None:
    component_state.add(session, host, part.for_host(host))
    results.reopen(session, host, part.for_host(host))


def _runs(session: Session, unit: str, host: str) -> bool:
    return session.run(host, f"systemctl is-active --quiet {unit}", timeout=20).succeeded


@contextmanager
def _stop_on_interrupt(stopping: Event, progress: RunProgress) -> Iterator[None]:
    def interrupted(*_: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()
        progress.detail("stopping after the current operation of every host; Ctrl-C again stops immediately")

    previous = signal.signal(signal.SIGINT, interrupted)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
