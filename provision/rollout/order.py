"""The order in which the hosts of a run change.

First come hosts without a serving bot, new bots after their database; then the hosts whose bots serve, batch
by batch. A batch is drained at every nginx in front of it (`provision.rollout.draining`), changed, checked,
and enabled again. When a host of a batch does not become ready, the whole batch is rolled back and the
following batches are not started.

An nginx in service whose bots move or change is changed after these bots: until then they also listen where
it reaches them (`provision.rollout.former_addresses`). Bots that do not listen where an nginx looks for
them, since a run was interrupted, change before the other bots. A bot that is removed is removed after
that.

With a new authority, bots and nginx accept each other only once both have changed: nginx changes after the
first batch. Until then the other bots answer it, afterwards those of that batch; it tries another bot when
the certificate of one is not from its authority.

The nodes of an Elasticsearch cluster also change one by one: one of three may be down, two may not. The start
of a node waits for a healthy cluster, so the next node may follow.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from deploys.ops.programs import program
from deploys.tls.certificate import OTHER_AUTHORITY
from deploys.topology.bots import bots_behind, drained_at, upstream
from inventory.errors import HostError
from inventory.model import Inventory
from provision.connection.session import Session
from provision.local.concurrency import for_each
from provision.plan import HostPlan, HostResult, Plan, Status
from provision.progress import RunProgress
from provision.rollout.draining import Drain
from provision.rollout.rollback import GUARDED

UPSTREAMS = "/etc/nginx/clawd/upstreams.conf"
NGINX_CERTIFICATE = "/etc/clawd/nginx-internal/fullchain.pem"


@dataclass(frozen=True, slots=True)
class Stage:
    """Hosts that change together after all hosts in `needs`, from earlier stages, have succeeded.

    With `moves`, their nginx will reach bots at another place, where these must listen first.
    """

    hosts: tuple[str, ...]
    needs: tuple[str, ...] = ()
    drained: bool = False
    moves: bool = False


@dataclass(frozen=True, slots=True)
class HostStates:
    """Names of hosts by what was found on them and what their plan changes, on which the order depends."""

    serving: Collection[str] = ()
    """Their bot runs."""
    nodes: Collection[str] = ()
    """Their Elasticsearch runs."""
    passing: Collection[str] = ()
    """Their nginx runs, and will reach bots at other addresses."""
    renewing: Collection[str] = ()
    """Their nginx gets a certificate of a new authority."""
    lacking: Collection[str] = ()
    """Their bot does not listen at an address that an nginx uses."""


def stages(inventory: Inventory, planned: Plan, found: HostStates) -> tuple[Stage, ...]:
    """Return the stages of a plan in order."""
    names = [host.host for host in planned.hosts]
    databases = [name for name in names if "database" in inventory.hosts[name].roles]
    # What other bots need first cannot come after them.
    after = [name for name in found.passing if name in names and not changes_database(planned.for_host(name))]
    changing = [host.host for host in planned.hosts if host.host in found.serving and changes_bot(host)]
    rolling = sorted(
        changing, key=lambda name: (name not in found.lacking, name in after, name not in databases)
    )
    if len(rolling) == 1 and not drained_at(inventory, rolling[0]):
        rolling = []
    halfway = [
        name
        for name in names
        if name in found.renewing and name not in rolling and not changes_database(planned.for_host(name))
    ]
    moving = [name for name in names if name in after and name not in (*rolling, *halfway)]
    leaving = [name for name in rolling if moving and name not in inventory.with_role("runtime")]
    rolling = [name for name in rolling if name not in leaving]
    others = [name for name in names if name not in (*rolling, *halfway, *moving, *leaving)]
    # A new bot waits for its database.
    waiting = [name for name in others if databases and name in inventory.with_role("runtime")]
    at_once = [name for name in others if name not in waiting or name in databases]
    fresh = tuple(name for name in waiting if name not in at_once)
    # A node that is down changes immediately, because the cluster may be unhealthy without it.
    changing_nodes = [name for name in names if name in found.nodes and changes_node(planned.for_host(name))]
    following = [name for name in at_once if name in changing_nodes][1:]
    at_once = [name for name in at_once if name not in following]
    cluster = [name for name in at_once if changes_node(planned.for_host(name))]
    result = [Stage(tuple(at_once))]
    for name in following:
        result.append(Stage((name,), needs=tuple(cluster)))
        cluster.append(name)
    needed = [name for name in databases if name in others]
    result.append(Stage(fresh, needs=tuple(needed)))
    needed += fresh
    size = max(1, len(rolling) * inventory.rollout.batch_percent // 100)
    batches = [rolling[start : start + size] for start in range(0, len(rolling), size)]
    behind = {bot for front in halfway for bot in bots_behind(inventory, front)}
    # Those that a run before has changed answer nginx after its change, as those of the first batch do.
    changed_before = behind - {*rolling, *(name for name in names if changes_bot(planned.for_host(name)))}
    first = batches[:0] if changed_before else batches[:1]
    for batch in first:
        result.append(Stage(tuple(batch), needs=tuple(needed), drained=True))
        needed += batch
    needed += [name for name in others if name in behind and name not in needed]
    for group in _apart(halfway, changing_nodes):
        needs = (*needed, *_others_of(cluster, group, changing_nodes))
        result.append(Stage(group, needs=needs, moves=any(name in after for name in group)))
    needed += halfway
    for batch in batches[len(first) :]:
        result.append(Stage(tuple(batch), needs=tuple(needed), drained=True))
        needed += batch
    bots = {bot for front in moving for bot in bots_behind(inventory, front)}
    needed += [name for name in others if name in bots and name not in needed]
    for group in _apart(moving, changing_nodes):
        needs = (*needed, *_others_of(cluster, group, changing_nodes))
        result.append(Stage(group, needs=needs, moves=True))
    result.append(Stage(tuple(leaving), needs=tuple(moving)))
    return tuple(stage for stage in result if stage.hosts)


def _others_of(cluster: list[str], group: Sequence[str], nodes: Collection[str]) -> tuple[str, ...]:
    """Return the nodes that a group has to wait for, and count those of the group in the cluster."""
    mine = [name for name in group if name in nodes]
    before = tuple(cluster) if mine else ()
    cluster += mine
    return before


def _apart(hosts: Sequence[str], nodes: Collection[str]) -> Iterator[tuple[str, ...]]:
    """Yield `hosts` in groups that may change together: nodes of Elasticsearch one after another."""
    yield tuple(name for name in hosts if name not in nodes)
    for name in hosts:
        if name in nodes:
            yield (name,)


def changes_bot(plan: HostPlan) -> bool:
    """Return whether a plan changes the bot of a host."""
    return any(operation.component in GUARDED for operation in plan.changing)


def changes_database(plan: HostPlan) -> bool:
    """Return whether a plan changes the database of a host."""
    return any(operation.component == "database" for operation in plan.changing)


def changes_upstreams(plan: HostPlan) -> bool:
    """Return whether a plan has the nginx of a host reach other bots, or reach them elsewhere.

    One that only puts a drained bot back in service does not.
    """
    lines = [
        line
        for operation in plan.changing
        for file in operation.files
        if file.path == UPSTREAMS
        for line in file.diff
    ]
    removed, added = (
        {found[1] for line in lines if (found := re.match(rf"{sign}\s*server\s+(\S+?);?(\s|$)", line))}
        for sign in ("-", r"\+")
    )
    return removed != added


def changes_authority(plan: HostPlan) -> bool:
    """Return whether a plan gives the nginx of a host a certificate of a new authority, to show to bots."""
    return any(
        file.path == NGINX_CERTIFICATE and any(OTHER_AUTHORITY in line for line in file.diff)
        for operation in plan.changing
        for file in operation.files
    )


def changes_node(plan: HostPlan) -> bool:
    """Return whether a plan changes the Elasticsearch of a host."""
    return any(operation.component == "elasticsearch" for operation in plan.changing)


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
