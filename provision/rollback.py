"""Putting the old state of the bots back when a new one does not come up.

Before the runtime of a host changes, its settings, secrets, units and the link to its release are kept in one
archive on the host (root only). When the run then fails there, they are put back and both services started
with them, and the host counts as rolled back only if both run. A run that failed before it touched any of it
leaves them running as they did.
"""

from __future__ import annotations

from dataclasses import replace

from inventory.errors import ClawdError
from provision.concurrency import outcomes
from provision.plan import HostPlan, HostResult, Status
from provision.session import Session

GUARDED = {"model", "runtime"}
"""The components whose change is undone when a later operation of theirs fails."""

KEPT = (
    "etc/clawd/bot.json",
    "etc/clawd/engine.json",
    "etc/clawd/secrets",
    "etc/systemd/system/clawd-bot.service",
    "etc/systemd/system/clawd-engine.service",
    "opt/clawd/current",
    # With what both were last started, so that nothing seems to differ afterwards.
    "var/lib/clawd/state/clawd-bot.service.stamp",
    "var/lib/clawd/state/clawd-engine.service.stamp",
)
SERVICES = "clawd-bot clawd-engine"
ARCHIVE = "/var/lib/clawd/state/previous.tar"
RUNS = "/var/lib/clawd/state/previous.runs"
"""Which runs of the services these were: systemd numbers them."""

KEEP = f"""set -eu
umask 077
cd /
rm -f {ARCHIVE}
[ -L opt/clawd/current ] && systemctl is-active --quiet clawd-bot || exit 0
there=
for path in {" ".join(KEPT)}; do
    if [ -e "$path" ] || [ -L "$path" ]; then there="$there $path"; fi
done
tar -cf {ARCHIVE}.new $there
systemctl show --property=InvocationID {SERVICES} > {RUNS}
mv {ARCHIVE}.new {ARCHIVE}
echo kept
"""
"""Keeps the state of a host whose bot runs and says `kept`; a host that serves nothing keeps nothing."""

PUT_BACK = f"""set -eu
cd /
tar -tf {ARCHIVE} >/dev/null
serving() {{
    systemctl is-active --quiet clawd-bot || return
    [ ! -f etc/systemd/system/clawd-engine.service ] || systemctl is-active --quiet clawd-engine
}}
untouched() {{
    [ "$(systemctl show --property=InvocationID {SERVICES})" = "$(cat {RUNS})" ] &&
    [ "$(find {" ".join(KEPT)} 2>/dev/null | sort)" = "$(tar -tf {ARCHIVE} | sed 's|/$||' | sort)" ] &&
    tar -df {ARCHIVE} >/dev/null 2>&1
}}
if untouched && serving; then echo untouched; exit 0; fi
if ! tar -tf {ARCHIVE} | grep -qx etc/systemd/system/clawd-engine.service; then
    systemctl disable --now clawd-engine 2>/dev/null || true
fi
rm -rf {" ".join(KEPT)}
tar -xpf {ARCHIVE}
systemctl daemon-reload
systemctl reset-failed clawd-bot clawd-engine 2>/dev/null || true
if [ -f etc/systemd/system/clawd-engine.service ]; then systemctl restart clawd-engine; fi
systemctl restart clawd-bot
systemctl is-active --quiet clawd-bot
"""
"""Replaces what is there by what was kept, and starts both services with it.

Where all is as it was kept, and the services are the same runs, they are left alone; it says `untouched`.
"""

FORGET = f"rm -f {ARCHIVE} {RUNS}"
"""What was kept holds old secrets: it goes when the run on the host is over."""

START_SECONDS = 900
"""A large model may take as long to load as its unit allows."""


class Rollback:
    """Keeps and puts back the state of hosts, over the connections of one run."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._armed: set[str] = set()

    def arm(self, plan: HostPlan) -> None:
        """Keeps the state of a host when its plan changes a guarded component."""
        if any(operation.component in GUARDED for operation in plan.changing):
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

        Returns the results with what came of it. What was kept is forgotten where it is not needed any more.
        """
        failed = [result.host for result in results if self._to_undo(result)]
        known = {result.host: result for result in results}

        def settle_one(host: str) -> HostResult:
            result = known[host]
            if host not in self._armed:
                return result
            if failed and result.status in (Status.DONE, Status.FAILED):
                result = self._put_back(result, failed)
            if result.status is not Status.FAILED:
                self._session.run(host, FORGET, timeout=20)
            return result

        ended = outcomes(known, settle_one)
        return tuple(
            outcome
            if isinstance(outcome, HostResult)
            else replace(known[host], message=f"{known[host].message}\n{outcome}".strip())
            for host, outcome in ended.items()
        )

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
