"""Record the results of a run on the hosts, and conclude its outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from inventory.errors import ConnectError, with_hint
from inventory.load import digest
from provision import component_state, run_journal
from provision.assignment import Assignment
from provision.connection.session import Session
from provision.local.concurrency import outcomes
from provision.plan import Plan, Result, Status
from provision.run import Exit, Outcome, Run
from provision.steps.comparing import not_converged
from provision.verification import run as checks


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
        messages.append(not_converged(planned, verifies=verifies))
        code = Exit.ERROR if any(why.failed for why in planned.unverified.values()) else code
    return Outcome(code, planned, result, verification, unreachable, "\n".join(messages))
