"""Putting the old state of the bots back when a new one does not come up.

The host keeps the last state of its runtime that passed its readiness, see `deploys.runtime.good`: settings,
secrets, units and the link to the release. When a run fails there, that is put back and both services started
with it, and the host counts as rolled back only if it is ready again. A run that failed before it touched any
of it leaves them running as they did.
"""

from __future__ import annotations

from dataclasses import replace

from deploys.runtime.good import KEEP, PUT_BACK
from inventory.errors import ClawdError
from provision.concurrency import outcomes
from provision.plan import HostPlan, HostResult, Status
from provision.session import Session

GUARDED = {"model", "runtime"}
"""The components whose change is undone when a later operation of theirs fails."""

START_SECONDS = 900
"""A large model may take as long to load as its unit allows."""


class Rollback:
    """Keeps and puts back the state of hosts, over the connections of one run."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changing: set[str] = set()
        self._armed: set[str] = set()

    def arm(self, plan: HostPlan) -> None:
        """Keep the state of a host when its plan changes a guarded component and it passed its readiness."""
        if any(operation.component in GUARDED for operation in plan.changing):
            self._changing.add(plan.host)
            kept = self._session.run(plan.host, KEEP, timeout=60)
            if not kept.succeeded:
                raise ClawdError(
                    f"{plan.host}: nothing was changed: its state cannot be kept: {kept.stderr.strip()}",
                    advice="free disk space on /var/lib, then run `up` again",
                )
            if "kept" in kept.stdout.split():
                self._armed.add(plan.host)

    def settle(self, results: tuple[HostResult, ...]) -> tuple[HostResult, ...]:
        """Puts the old state back on all of these hosts when one failed in a guarded component.

        Returns the results with what came of it. A new state that passed is kept in the place of the old one.
        """
        failed = [result.host for result in results if self._to_undo(result)]
        known = {result.host: result for result in results}

        def settle_one(host: str) -> HostResult:
            result = known[host]
            if host in self._armed and failed and result.status in (Status.DONE, Status.FAILED):
                result = self._put_back(result, failed)
            if host in self._changing:
                result = self._kept(result)
            return result

        ended = outcomes(known, settle_one)
        return tuple(
            outcome
            if isinstance(outcome, HostResult)
            else replace(known[host], message=f"{known[host].message}\n{outcome}".strip())
            for host, outcome in ended.items()
        )

    def _kept(self, result: HostResult) -> HostResult:
        """Have the host keep its state if that passed, which it knows itself; then the old secrets go."""
        try:
            self._session.run(result.host, KEEP, timeout=60)
        except ClawdError as error:
            return replace(result, message=f"{result.message}\n{error}".strip())
        return result

    def _to_undo(self, result: HostResult) -> bool:
        if result.host not in self._armed or result.status is not Status.FAILED:
            return False
        return result.failure is not None and result.failure.component in GUARDED

    def _put_back(self, result: HostResult, failed: list[str]) -> HostResult:
        if result.host not in failed and result.status is Status.FAILED:
            return result  # failed elsewhere, with a bot that came up: its own message says what to do
        done = self._session.run(result.host, PUT_BACK, timeout=START_SECONDS)
        if not done.succeeded:
            message = f"the old state could not be put back: {done.stderr.strip()[-400:]}"
            return replace(result, status=Status.FAILED, message=message)
        why = "" if result.host in failed else f", because the run failed on {', '.join(failed)}"
        untouched = "untouched" in done.stdout.split()
        how = "had not been touched yet and serve on" if untouched else "were put back and serve"
        message = f"the old release and settings {how}{why}"
        return replace(result, status=Status.ROLLED_BACK, message=message)
