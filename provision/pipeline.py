"""The steps of each command.

up:      load → connect → lock → examine → supply → plan → confirm → apply → journal → verify
         (again from connect for bots that nginx has moved away from: `provision.rollout.former_addresses`,
         and for a new authority: `provision.rollout.authority_rotation`)
plan:    load → connect → examine →        supply → plan
drift:   load → connect → examine →        supply → plan, and who applied last
remove:  load → connect → lock →                    plan → confirm → apply → journal
verify:  load → checks on every host
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType

from gevent.event import Event

from deploys.artifacts import NO_ROTATION, Rotation, Supplies
from inventory.errors import ClawdError, ConnectError, HostError, with_hint
from inventory.load import digest
from provision import component_state, run_journal
from provision.artifacts.select import gather
from provision.assignment import Assignment
from provision.connecting import connected, settled
from provision.connection.error_hints import NO_PACKAGE
from provision.connection.lock import Locks
from provision.connection.session import Session, links_to
from provision.local.ask import SecretPrompt, Terminal
from provision.local.concurrency import outcomes
from provision.plan import HostPlan, HostResult, Plan, Result, Status
from provision.preflight import capacity, doctor, ownership
from provision.progress import RunProgress
from provision.rollout import authority_rotation, former_addresses, order, plan_changes
from provision.rollout.draining import Drain
from provision.rollout.roll import roll, unreached
from provision.rollout.rollback import Rollback
from provision.run import Exit, Outcome, Run
from provision.selection import assign, check_components, selected_hosts
from provision.verification import results
from provision.verification import run as checks


def up(run: Run, confirm: Callable[[Plan], bool], *, verify: bool = True) -> Outcome:
    """Apply the inventory to the hosts.

    Args:
        run: the input of the command.
        confirm: receives a plan that changes something; returns whether to apply it.
        verify: whether to run the checks after a change, and on hosts whose last checks did not pass.

    Raises:
        ClawdError: when a step fails before anything was changed.

    """
    ask = Terminal(run.progress.asking)
    outcome, left = _pass(run, ask, confirm, verify=verify)
    for _ in range(MORE_PASSES):
        result = outcome.result
        if not left or not left.changed or result is None or not result.succeeded:
            break
        run.progress.detail(left.next_pass)
        hosts = tuple(host.host for host in result.hosts)
        further = replace(run, selection=replace(run.selection, hosts=hosts))
        try:
            outcome, left = _pass(further, ask, lambda _: True, verify=verify, earlier=(outcome, left))
        except ClawdError as error:
            return _without_further_pass(outcome, left, error.message, Exit(error.exit_code))
        except KeyboardInterrupt:
            return _without_further_pass(outcome, left, "interrupted", Exit.INTERRUPTED)
    return _with_left(run, outcome, left)


MORE_PASSES = 3
"""Passes after the first one: a rotation of the authority takes two, and bots that move one."""


@dataclass(frozen=True, slots=True)
class Left:
    """The rest that a pass of `up` leaves to the next: former addresses of bots, and former authorities.

    `changed` is whether the pass changed anything; a further one would find the same otherwise.
    """

    places: former_addresses.Former
    rotation: Rotation
    changed: bool = False

    def __bool__(self) -> bool:
        """Return whether anything is left."""
        return bool(self.places or self.rotation.former)

    @property
    def next_pass(self) -> str:
        """Return what the next pass does, for the user."""
        if not self.rotation.former:
            return "nginx has moved: in a second pass, the bots leave their former ports"
        if self.rotation.introducing:
            return "hosts trust the new authority as well: a second pass signs their certificates again"
        return "the new authority has signed all certificates: a last pass ends trust in the former one"

    @property
    def unfinished(self) -> str:
        """Return what remains until the next pass, for the user."""
        texts = []
        if self.places:
            texts.append("bots still listen on their former ports")
        if self.rotation.former:
            texts.append("hosts still trust the former authority")
        return ", and ".join(texts)


def _pass(
    run: Run,
    ask: SecretPrompt,
    confirm: Callable[[Plan], bool],
    *,
    verify: bool,
    earlier: tuple[Outcome, Left] | None = None,
) -> tuple[Outcome, Left]:
    """Return the outcome of one pass of `up`, and what it leaves to the next.

    A further pass, after an `earlier` one, only ends former listeners, and completes the rotation of the
    authority. Its outcome is that of all.
    """
    assignments = assign(run.loaded.inventory, run.selection)
    capacity.refuse(run.loaded.inventory, assignments)
    with connected(run, ask, fronts=True) as (session, unreachable):
        with Locks(session, session.hosts, "up", run.progress.detail):
            ownership.check(run.loaded, session, adopt=run.adopt)
            settled(run, session)
            if earlier is None:
                whole = with_removals(run, session, assignments)
            else:
                whole = dict(_only(assignments, session.hosts))
                if not earlier[1].rotation.former:
                    whole = former_addresses.listening(whole)
            places = former_addresses.find(session, run.loaded.inventory)
            rotation = authority_rotation.find(session, run.loaded)
            left = Left(places, rotation)
            whole = former_addresses.keeping(whole, run.loaded.inventory, places)
            plan = make_plan(run, session, whole, may_build=True, rotation=rotation)
            if plan.changes:
                if not confirm(plan):
                    pending = Outcome(
                        Exit.PENDING, plan, unreachable=unreachable, message="nothing was changed"
                    )
                    return pending, left
                session.check_alive()
            ownership.claim(run.loaded, session, adopt=run.adopt)
            result = _explained(run, session, apply(run, session, plan, places))
            notes = record(run, session, result, whole, complete=not left)
        left = replace(left, changed=bool(result.changed))
        before = earlier[0] if earlier else None
        missed: Mapping[str, ConnectError] = unreachable
        if before is not None and before.plan is not None and before.result is not None:
            plan, result = before.plan, result.after(before.result)
            notes = (*filter(None, (before.message,)), *notes)
            missed = {**(before.unreachable or {}), **unreachable}
        verification = None
        if verify and result.succeeded and (result.changed or plan.unverified) and not left:
            run.progress.step("verify")
            hosts = session.hosts if result.changed else tuple(plan.unverified)
            verification = checks.verify(run.loaded, _only(assignments, hosts), session.links)
    return conclude(plan, result, verification, missed, notes, verifies=not left), left


def _with_left(run: Run, outcome: Outcome, left: Left) -> Outcome:
    """Return the outcome of a whole `up`; it is not complete while anything is `left`."""
    if not left or outcome.exit is not Exit.DONE:
        return outcome
    hosts = selected_hosts(run.loaded.inventory, run.selection)
    said = _explained_left(run, hosts, left)
    return replace(outcome, exit=Exit.PENDING, message=_lines(outcome.message, said))


def _explained_left(run: Run, hosts: Sequence[str], left: Left) -> str:
    inventory = run.loaded.inventory
    whole = set(inventory.hosts) <= set(hosts)
    return _lines(
        former_addresses.explained(inventory, hosts, left.places),
        authority_rotation.explained(left.rotation, completes=whole),
    )


def _without_further_pass(outcome: Outcome, left: Left, why: str, code: Exit) -> Outcome:
    """Return the outcome of an `up` of which a further pass ended with an error."""
    said = with_hint(
        f"{left.unfinished}: {why}",
        "the plan was applied; run `up` again, which completes the rest",
    )
    return replace(outcome, exit=code, message=_lines(outcome.message, said))


def _lines(*texts: str) -> str:
    return "\n".join(filter(None, texts))


def plan(run: Run) -> Outcome:
    """Return what `up` would do, without changing anything."""
    wanted = assign(run.loaded.inventory, run.selection)
    capacity.refuse(run.loaded.inventory, wanted)
    with connected(run, fronts=True) as (session, unreachable):
        ownership.check(run.loaded, session, adopt=run.adopt)
        whole, left = _present(run, session, wanted)
        said = _explained_left(run, session.hosts, left)
        planned = make_plan(run, session, whole, rotation=left.rotation)
    if unreachable:
        return Outcome(Exit.ERROR, planned, unreachable=unreachable, message=said)
    message = _lines(_not_converged(planned, verifies=not said), said)
    pending = planned.changes or planned.unverified or said
    return Outcome(Exit.PENDING if pending else Exit.DONE, planned, message=message)


def drift(run: Run) -> Outcome:
    """Return whether hosts differ from what was last applied, without changing anything.

    A difference counts as drift when the last run on the host was complete and used this inventory and
    program; otherwise it may have another cause, and the changes are pending.
    """
    wanted = assign(run.loaded.inventory, run.selection)
    capacity.refuse(run.loaded.inventory, wanted)
    with connected(run, fronts=True) as (session, unreachable):
        ownership.check(run.loaded, session, adopt=run.adopt)
        whole, left = _present(run, session, wanted)
        said = _explained_left(run, session.hosts, left)
        planned = make_plan(run, session, whole, rotation=left.rotation)
        current = digest(run.loaded.declared, run.loaded.folder)
        last = session.everywhere(lambda host: run_journal.read(session, host, 1))
    drifted = [
        host.host
        for host in planned.hosts
        if host.changing and any(entry.is_whole(current) for entry in last[host.host])
    ]
    if unreachable:
        return Outcome(Exit.ERROR, planned, unreachable=unreachable, message=said)
    if drifted:
        return Outcome(Exit.DRIFT, planned, message=_lines(f"drifted: {', '.join(drifted)}", said))
    if planned.changes:
        why = "not drift: the last run used another inventory or program, or was incomplete"
        return Outcome(Exit.PENDING, planned, message=_lines(why, said))
    if planned.unverified or said:
        message = _lines(_not_converged(planned, verifies=not said), said)
        return Outcome(Exit.PENDING, planned, message=message)
    return Outcome(Exit.DONE, planned)


def verify(run: Run) -> Outcome:
    """Run the checks of the components on every host."""
    run.progress.step("verify")
    assignments = assign(run.loaded.inventory, run.selection)
    links = links_to(run.loaded, assignments, Terminal(run.progress.asking))
    try:
        verification = checks.verify(run.loaded, assignments, links)
    finally:
        for link in links.values():
            link.close()
    return Outcome(Exit.ERROR if verification.failed else Exit.DONE, verification=verification)


def remove(run: Run, confirm: Callable[[Plan], bool]) -> Outcome:
    """Remove the selected components from the selected hosts; without a selection, all of them."""
    check_components(run.selection)
    with (
        connected(run, fronts=True) as (session, unreachable),
        Locks(session, session.hosts, "remove", run.progress.detail),
    ):
        ownership.check(run.loaded, session, adopt=run.adopt)
        settled(run, session)
        run.progress.step("plan")
        chosen = run.selection.components
        names = session.everywhere(lambda host: component_state.read(session, host))
        left = session.everywhere(partial(_left, run, session))
        removing = {
            host: component_state.removals(names[host], (), chosen, left[host]) for host in session.hosts
        }
        supplies = gather(run.loaded, session, removing, run.progress, may_build=False)
        planned = _prepared(run, session, removing, supplies)
        if not planned.changes:
            return Outcome(Exit.DONE, planned, unreachable=unreachable, message="there is nothing to remove")
        if not confirm(planned):
            return Outcome(Exit.PENDING, planned, unreachable=unreachable, message="nothing was changed")
        session.check_alive()
        result = apply(run, session, planned)
        notes = record(run, session, result, removing)
    return conclude(planned, result, None, unreachable, notes)


def history(
    run: Run, limit: int
) -> tuple[Mapping[str, tuple[run_journal.JournalEntry, ...]], Mapping[str, ConnectError]]:
    """Return the last runs on every host, oldest first, and the hosts that cannot be reached."""
    with connected(run) as (session, unreachable):
        return session.everywhere(lambda host: run_journal.read(session, host, limit)), unreachable


# The steps


def with_removals(
    run: Run, session: Session, assignments: Mapping[str, Sequence[Assignment]]
) -> dict[str, Sequence[Assignment]]:
    """Return the components of every connected host, with removals of those that it should no longer have.

    Components that others depend on are removed last, all others first.
    """
    run.progress.step("examine")
    names = session.everywhere(lambda host: component_state.read(session, host))
    left = session.everywhere(partial(_left, run, session))
    whole: dict[str, Sequence[Assignment]] = {}
    for host in session.hosts:
        going = component_state.removals(names[host], assignments[host], run.selection.components, left[host])
        last = [item for item in going if item.component.name in component_state.STOOD_ON]
        whole[host] = (*(item for item in going if item not in last), *assignments[host], *last)
    return whole


def _present(
    run: Run, session: Session, assignments: Mapping[str, Sequence[Assignment]]
) -> tuple[dict[str, Sequence[Assignment]], Left]:
    """Return what the next pass of `up` would give the hosts, and what it would leave to further ones."""
    whole = with_removals(run, session, assignments)
    inventory = run.loaded.inventory
    places = former_addresses.find(session, inventory)
    left = Left(places, authority_rotation.find(session, run.loaded))
    return former_addresses.keeping(whole, inventory, places), left


def _left(run: Run, session: Session, host: str) -> frozenset[str]:
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
    mine = _only(assignments, session.hosts)
    supplies = gather(run.loaded, session, mine, run.progress, may_build=may_build, rotation=rotation)
    run.progress.step("plan")
    planned = _prepared(run, session, mine, supplies)
    records = session.everywhere(lambda host: results.read(session, host))
    return Plan(
        tuple(
            replace(host, unverified=results.unverified(records[host.host], _wanted(mine[host.host])))
            for host in planned.hosts
        )
    )


def _wanted(assigned: Sequence[Assignment]) -> list[str]:
    return [item.component.name for item in assigned if item.settings is not None]


def _not_converged(planned: Plan, *, verifies: bool = True) -> str:
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


def _prepared(
    run: Run,
    session: Session,
    assignments: Mapping[str, Sequence[Assignment]],
    supplies: Mapping[str, Supplies],
) -> Plan:
    for host in session.hosts:
        session.set_data(host, "purge", run.purge)
        session.set_data(host, "goes_back", True)
    planned = session.prepare(assignments, supplies, run.progress)
    if planned.errors:
        raise HostError("\n".join(f"{host.host}: {host.error}" for host in planned.errors))
    return planned


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
                order.stages(
                    inventory,
                    planned,
                    order.HostStates(
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


def _explained(run: Run, session: Session, result: Result) -> Result:
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


def record(
    run: Run,
    session: Session,
    result: Result,
    assignments: Mapping[str, Sequence[Assignment]],
    *,
    complete: bool = True,
) -> tuple[str, ...]:
    """Write the results into the journals of the hosts; return the errors.

    An unchanged host gets an entry only if its last entry differs. A pass that is not `complete` has no
    inventory in its entry, because hosts do not match it yet.
    """
    run.progress.step("journal")
    current = digest(run.loaded.declared, run.loaded.folder) if complete else ""
    components = run.selection.components
    results = {host.host: host for host in result.hosts}

    def write(name: str) -> None:
        host = results[name]
        if host.status is Status.NOT_BEGUN:
            return
        if host.status is Status.DONE and not component_state.settle(
            session, name, assignments[name], run.purge
        ):
            return
        quiet = host.status is Status.DONE and not host.changed
        if quiet and (
            components or any(entry.is_whole(current) for entry in run_journal.read(session, name, 1))
        ):
            return
        run_journal.append(session, name, run_journal.JournalEntry.of(host, current, components))

    return tuple(str(ended) for ended in outcomes(results, write).values() if isinstance(ended, Exception))


def conclude(
    planned: Plan,
    result: Result,
    verification: checks.Verification | None,
    unreachable: Mapping[str, ConnectError],
    notes: Sequence[str] = (),
    *,
    verifies: bool = True,
) -> Outcome:
    """Return the outcome of an `up`. `notes` are errors in addition to the results of the hosts.

    `verifies` is whether the next `up` runs checks that are due.
    """
    code = Exit(result.exit_code)
    messages = [*notes]
    if code is Exit.INTERRUPTED:
        messages.append(with_hint("interrupted", "run the same command again, which completes the rest"))
    if code is Exit.DONE and (unreachable or notes or (verification and verification.failed)):
        code = Exit.ERROR
    if verification and not result.changed:
        messages += [f"{host}: verified again: {why.reason}" for host, why in planned.unverified.items()]
    if code is Exit.DONE and verification is None and not result.changed and planned.unverified:
        # The checks were declined, but earlier failures still count.
        messages.append(_not_converged(planned, verifies=verifies))
        code = Exit.ERROR if any(why.failed for why in planned.unverified.values()) else code
    return Outcome(code, planned, result, verification, unreachable, "\n".join(messages))


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


def _only(
    assignments: Mapping[str, Sequence[Assignment]], hosts: Sequence[str]
) -> dict[str, Sequence[Assignment]]:
    return {host: assignments[host] for host in hosts}
