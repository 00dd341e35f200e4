"""Execution of the stages of a plan: drain, change, and put back into service."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from deploys.ops.programs import program
from deploys.topology.bots import bots_behind, upstream
from inventory.errors import HostError
from inventory.model import Inventory
from provision.connection.session import Session
from provision.local.concurrency import for_each
from provision.plan import HostResult, Plan, Status
from provision.progress import RunProgress
from provision.rollout.draining import Drain
from provision.rollout.plan_changes import changes_bot
from provision.rollout.stages import Stage


def roll(
    stages: Sequence[Stage],
    planned: Plan,
    execute: Callable[[Plan], tuple[HostResult, ...]],
    out_of_service: Callable[[str], Drain],
    progress: RunProgress,
    unreached: Callable[[str], str] = lambda host: "",
) -> tuple[HostResult, ...]:
    """Execute the stages in order; return the results of all hosts in the order of the plan.

    `unreached` returns why the nginx of a host cannot move; empty when it can.
    """
    results: dict[str, HostResult] = {}
    rolling = [stage for stage in stages if stage.drained]
    interrupted = False
    for stage in stages:
        missing = [host for host in stage.needs if results[host].status is not Status.DONE]
        if interrupted or missing:
            begun = [host for host in missing if results[host].status is not Status.NOT_BEGUN]
            failed = ", ".join(begun or missing)
            why = "the run was interrupted" if interrupted else f"{failed} failed"
            message = f"not started: {why}"
            results |= {host: HostResult(host, Status.NOT_BEGUN, message=message) for host in stage.hosts}
            continue
        if stage.drained:
            batch = rolling.index(stage) + 1
            progress.detail(f"batch {batch} of {len(rolling)}: {', '.join(stage.hosts)}")
        blocked = _blocked(stage.hosts, unreached) if stage.moves else {}
        free = replace(stage, hosts=tuple(host for host in stage.hosts if host not in blocked))
        results |= blocked | _carried_out(free, planned, execute, out_of_service)
        interrupted |= any(results[host].status is Status.INTERRUPTED for host in free.hosts)
    return tuple(results[host.host] for host in planned.hosts)


def _blocked(hosts: Sequence[str], unreached: Callable[[str], str]) -> dict[str, HostResult]:
    """Return the results of hosts whose nginx cannot move."""

    def problem(host: str) -> str:
        try:
            return unreached(host)
        except HostError as error:
            return str(error)

    found = for_each(hosts, problem)
    return {
        host: HostResult(host, Status.NOT_BEGUN, message=f"not started: {why}")
        for host, why in found.items()
        if why
    }


def _carried_out(
    stage: Stage,
    planned: Plan,
    execute: Callable[[Plan], tuple[HostResult, ...]],
    out_of_service: Callable[[str], Drain],
) -> dict[str, HostResult]:
    drains = [out_of_service(host) for host in stage.hosts] if stage.drained else []
    try:
        for drain in drains:
            drain.begin()
    except HostError as error:
        for drain in drains:
            drain.end()
        return {host: HostResult(host, Status.FAILED, message=str(error)) for host in stage.hosts}
    ended = execute(Plan(tuple(planned.for_host(host) for host in stage.hosts)))
    results = {result.host: result for result in ended}
    for drain in drains:
        # A bot that was neither changed nor rolled back is down and must not receive requests.
        if results[drain.bot].status is not Status.FAILED:
            results[drain.bot] = _with_problems(results[drain.bot], drain.end())
    return results


def unreached(session: Session, inventory: Inventory, planned: Plan, front: str) -> str:
    """Return why the nginx of `front` cannot move: none of its bots listens at the new place.

    Raises `HostError` when the host does not answer.
    """
    bots = bots_behind(inventory, front)
    if front in bots and changes_bot(planned.for_host(front)):
        return ""  # its bot changes right before it
    names = [upstream(inventory, front, bot) for bot in bots]
    done = session.run(front, f"python3 -c {shlex.quote(_LISTENS)} {shlex.join(names)}", timeout=60)
    if done.succeeded:
        return ""
    return f"no bot listens at {', '.join(names)}; run `up` for {', '.join(bots)} as well, without `--tags`"


_LISTENS = program("provision/rollout/scripts/listens.py")


def _with_problems(result: HostResult, problems: Sequence[str]) -> HostResult:
    if not problems:
        return result
    return replace(result, message="\n".join(filter(None, (result.message, *problems))))
