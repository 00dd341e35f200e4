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

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from inventory.errors import ClawdError, ConnectError, with_hint
from inventory.load import digest
from provision import component_state, model_routes, policy_log, run_journal
from provision.artifacts.select import gather
from provision.connecting import connected, settled
from provision.connection.lock import Locks
from provision.connection.session import Session, links_to
from provision.local.ask import SecretPrompt, Terminal
from provision.model_routes import UsedRoutes
from provision.plan import Plan
from provision.policy_log import PolicyRecord
from provision.preflight import capacity, ownership
from provision.rollout import authority_rotation, former_addresses
from provision.run import Exit, Outcome, Run
from provision.selection import assign, check_components, selected_hosts
from provision.steps.applying import apply, explained_failures
from provision.steps.comparing import data_left, make_plan, not_converged, only, prepare, with_removals
from provision.steps.concluding import conclude, record
from provision.steps.remaining import Left, explained, lines, present
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
                whole = dict(only(assignments, session.hosts))
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
            result = explained_failures(run, session, apply(run, session, plan, places))
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
            verification = checks.verify(run.loaded, only(assignments, hosts), session.links)
    return conclude(plan, result, verification, missed, notes, verifies=not left), left


def _with_left(run: Run, outcome: Outcome, left: Left) -> Outcome:
    """Return the outcome of a whole `up`; it is not complete while anything is `left`."""
    if not left or outcome.exit is not Exit.DONE:
        return outcome
    hosts = selected_hosts(run.loaded.inventory, run.selection)
    said = explained(run, hosts, left)
    return replace(outcome, exit=Exit.PENDING, message=lines(outcome.message, said))


def _without_further_pass(outcome: Outcome, left: Left, why: str, code: Exit) -> Outcome:
    """Return the outcome of an `up` of which a further pass ended with an error."""
    said = with_hint(
        f"{left.unfinished}: {why}",
        "the plan was applied; run `up` again, which completes the rest",
    )
    return replace(outcome, exit=code, message=lines(outcome.message, said))


@contextmanager
def _compared(run: Run) -> Iterator[Compared]:
    """Compare the hosts with the inventory, and stay connected for as long as the block lasts."""
    wanted = assign(run.loaded.inventory, run.selection)
    capacity.refuse(run.loaded.inventory, wanted)
    with connected(run, fronts=True) as (session, unreachable):
        ownership.check(run.loaded, session, adopt=run.adopt)
        whole, left = present(run, session, wanted)
        said = explained(run, session.hosts, left)
        yield Compared(session, make_plan(run, session, whole, rotation=left.rotation), said, unreachable)


@dataclass(frozen=True, slots=True)
class Compared:
    """How hosts differ from the inventory; `left` explains what `up` left to a further pass."""

    session: Session
    plan: Plan
    left: str
    unreachable: Mapping[str, ConnectError]

    def outcome(self, code: Exit, *messages: str) -> Outcome:
        """Return the outcome of a command that changes nothing; an unreachable host is an error."""
        if self.unreachable:
            return Outcome(Exit.ERROR, self.plan, unreachable=self.unreachable, message=self.left)
        return Outcome(code, self.plan, message=lines(*messages, self.left))

    def unchanged(self) -> Outcome:
        """Return the outcome when the plan changes nothing: done only if the hosts are converged."""
        pending = self.plan.unverified or self.left
        why = not_converged(self.plan, verifies=not self.left)
        return self.outcome(Exit.PENDING if pending else Exit.DONE, why)


def plan(run: Run) -> Outcome:
    """Return what `up` would do, without changing anything."""
    with _compared(run) as found:
        pass
    if found.plan.changes:
        return found.outcome(Exit.PENDING, not_converged(found.plan, verifies=not found.left))
    return found.unchanged()


def drift(run: Run) -> Outcome:
    """Return whether hosts differ from what was last applied, without changing anything.

    A difference counts as drift when the last run on the host was complete and used this inventory and
    program; otherwise it may have another cause, and the changes are pending.
    """
    with _compared(run) as found:
        current = digest(run.loaded.declared, run.loaded.folder)
        last = found.session.everywhere(lambda host: run_journal.read(found.session, host, 1))
    drifted = [
        host.host
        for host in found.plan.hosts
        if host.changing and any(entry.is_whole(current) for entry in last[host.host])
    ]
    if drifted:
        return found.outcome(Exit.DRIFT, f"drifted: {', '.join(drifted)}")
    if found.plan.changes:
        why = "not drift: the last run used another inventory or program, or was incomplete"
        return found.outcome(Exit.PENDING, why)
    return found.unchanged()


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
        left = session.everywhere(partial(data_left, run, session))
        removing = {
            host: component_state.removals(names[host], (), chosen, left[host]) for host in session.hosts
        }
        supplies = gather(run.loaded, session, removing, run.progress, may_build=False)
        planned = prepare(run, session, removing, supplies)
        if not planned.changes:
            return Outcome(Exit.DONE, planned, unreachable=unreachable, message="there is nothing to remove")
        if not confirm(planned):
            return Outcome(Exit.PENDING, planned, unreachable=unreachable, message="nothing was changed")
        session.check_alive()
        result = apply(run, session, planned)
        notes = record(run, session, result, removing)
    return conclude(planned, result, None, unreachable, notes)


def policy_records(
    run: Run, message: int | None, limit: int
) -> tuple[Mapping[str, tuple[PolicyRecord, ...]], Mapping[str, ConnectError]]:
    """Return what bots found by their policy, oldest first, and the hosts that cannot be reached."""
    bots = run.loaded.inventory.with_role("runtime")
    with connected(run) as (session, unreachable):
        found = session.everywhere(
            lambda host: policy_log.read(session, host, message, limit) if host in bots else ()
        )
        return found, unreachable


def used_routes(run: Run) -> tuple[Mapping[str, UsedRoutes], Mapping[str, ConnectError]]:
    """Return the models as the bots use them, by host, and the hosts that cannot be reached."""
    inventory = run.loaded.inventory
    bots = tuple(inventory.with_role("runtime"))
    with connected(run) as (session, unreachable):
        asked = [host for host in session.links if host in bots]
        found = session.everywhere(lambda host: model_routes.read(session, host, inventory.bot.port), asked)
        return found, unreachable


def history(
    run: Run, limit: int
) -> tuple[Mapping[str, tuple[run_journal.JournalEntry, ...]], Mapping[str, ConnectError]]:
    """Return the last runs on every host, oldest first, and the hosts that cannot be reached."""
    with connected(run) as (session, unreachable):
        return session.everywhere(lambda host: run_journal.read(session, host, limit)), unreachable
