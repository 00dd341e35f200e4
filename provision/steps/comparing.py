"""Compare hosts with the inventory: which components they should have, and what would change.

Nothing is changed on any host.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from deploys.artifacts import NO_ROTATION, Rotation, Supplies
from inventory.errors import HostError, with_hint
from provision import component_state
from provision.artifacts.select import gather
from provision.assignment import Assignment
from provision.connection.session import Session
from provision.plan import Plan
from provision.preflight import doctor
from provision.run import Run
from provision.verification import results


def with_removals(
    run: Run, session: Session, assignments: Mapping[str, Sequence[Assignment]]
) -> dict[str, Sequence[Assignment]]:
    """Return the components of every connected host, with removals of those that it should no longer have.

    Components that others depend on are removed last, all others first.
    """
    run.progress.step("examine")
    names = session.everywhere(lambda host: component_state.read(session, host))
    left = session.everywhere(partial(data_left, run, session))
    whole: dict[str, Sequence[Assignment]] = {}
    for host in session.hosts:
        going = component_state.removals(names[host], assignments[host], run.selection.components, left[host])
        last = [item for item in going if item.component.name in component_state.STOOD_ON]
        whole[host] = (*(item for item in going if item not in last), *assignments[host], *last)
    return whole


def data_left(run: Run, session: Session, host: str) -> frozenset[str]:
    """Return the components of which only data is left, if the run purges data."""
    return component_state.with_data_left(session, host) if run.purge else frozenset()


def make_plan(
    run: Run,
    session: Session,
    assignments: Mapping[str, Sequence[Assignment]],
    *,
    may_build: bool = False,
    rotation: Rotation = NO_ROTATION,
) -> Plan:
    """Check the hosts, collect what they need from the laptop, and compare.

    With `may_build` the engine is built on a host if it is not in the cache and cannot be built elsewhere.
    Raises `ClawdError` when a host does not meet the requirements or cannot be compared.
    """
    run.progress.step("examine")
    doctor.examine(run.loaded.inventory, session, run.progress, place=run.loaded.place)
    run.progress.step("supply")
    mine = only(assignments, session.hosts)
    supplies = gather(run.loaded, session, mine, run.progress, may_build=may_build, rotation=rotation)
    run.progress.step("plan")
    planned = prepare(run, session, mine, supplies)
    records = session.everywhere(lambda host: results.read(session, host))
    return Plan(
        tuple(
            replace(host, unverified=results.unverified(records[host.host], _wanted(mine[host.host])))
            for host in planned.hosts
        )
    )


def _wanted(assigned: Sequence[Assignment]) -> list[str]:
    return [item.component.name for item in assigned if item.settings is not None]


def prepare(
    run: Run,
    session: Session,
    assignments: Mapping[str, Sequence[Assignment]],
    supplies: Mapping[str, Supplies],
) -> Plan:
    """Return what the operations of these components would change on the connected hosts."""
    for host in session.hosts:
        session.set_data(host, "purge", run.purge)
        session.set_data(host, "goes_back", True)
    planned = session.prepare(assignments, supplies, run.progress)
    if planned.errors:
        raise HostError("\n".join(f"{host.host}: {host.error}" for host in planned.errors))
    return planned


def not_converged(planned: Plan, *, verifies: bool = True) -> str:
    """Return why hosts without changes are not converged; empty when all are.

    `verifies` is whether the next `up` runs their checks, and adds a hint to do that.
    """
    reasons = [
        f"{host.host} is not converged: {host.unverified.reason}"
        for host in planned.hosts
        if host.unverified and not host.changing
    ]
    advice = "`up` verifies again, also where nothing changes" if reasons and verifies else ""
    return with_hint("\n".join(reasons), advice)


def only(
    assignments: Mapping[str, Sequence[Assignment]], hosts: Sequence[str]
) -> dict[str, Sequence[Assignment]]:
    """Return the components of these hosts alone."""
    return {host: assignments[host] for host in hosts}
