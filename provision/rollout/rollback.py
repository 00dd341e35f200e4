"""Rollback of bots when a new state does not become ready.

The host keeps the last state of its runtime that was ready, see `deploys.runtime.last_good`: settings,
secrets, units and the link to the release. When a run fails on the host, that state is restored and both
services are started; the host counts as rolled back only if it is ready again. A run that failed before it
changed anything leaves the services running.
"""

from __future__ import annotations

from dataclasses import replace

from deploys.runtime.last_good import KEEP, PUT_BACK
from inventory.errors import ClawdError
from provision.connection.session import Session
from provision.local.concurrency import outcomes
from provision.plan import HostPlan, HostResult, Status

GUARDED = {"model", "runtime"}
"""The components that are rolled back when one of their operations fails."""

START_SECONDS = 900
"""Seconds until both services are ready: a large model may take as long to load as its unit allows."""


class Rollback:
    """The rollback of hosts over the connections of one run."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._changing: set[str] = set()
        self._armed: set[str] = set()

    def arm(self, plan: HostPlan) -> None:
        """Save the state of a host if its plan changes a guarded component and the host was ready."""
        if any(operation.component in GUARDED for operation in plan.changing):
            self._changing.add(plan.host)
            kept = self._session.run(plan.host, KEEP, timeout=60)
            if not kept.succeeded:
                raise ClawdError(
                    f"{plan.host}: nothing was changed: cannot save its state: {kept.stderr.strip()}",
                    advice="free disk space on /var/lib, then run `up` again",
                )
            if "kept" in kept.stdout.split():
                self._armed.add(plan.host)

    def settle(self, results: tuple[HostResult, ...]) -> tuple[HostResult, ...]:
        """Roll back all of these hosts when one failed in a guarded component.

        Returns the results with the outcome of the rollback. A new state that is ready replaces the saved
        one.
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
        """Save the host's state if the host finds it ready; old secrets are removed then."""
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
            return result  # another operation failed, and the bot is ready: its own message has a hint
        done = self._session.run(result.host, PUT_BACK, timeout=START_SECONDS)
        if not done.succeeded:
            message = f"the rollback failed: {done.stderr.strip()[-400:]}"
            return replace(result, status=Status.FAILED, message=message)
        why = "" if result.host in failed else f": the run failed on {', '.join(failed)}"
        untouched = "untouched" in done.stdout.split()
        how = "were not changed yet and still serve" if untouched else "were restored and serve"
        message = f"the previous release and settings {how}{why}"
        return replace(result, status=Status.ROLLED_BACK, message=message)
