"""Connect to the hosts of a run, and see to it that commands and apt work there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from deploys.ops.debian import apt
from inventory.errors import ClawdError, ConnectError, HostError
from provision.connection.apt_proxy import apt_options, share
from provision.connection.package_gate import SOURCES, PackageGate, mirrors_of, repositories_of
from provision.connection.session import Session
from provision.local.ask import SecretPrompt, Terminal
from provision.local.concurrency import outcomes
from provision.preflight import doctor
from provision.rollout.draining import fronts_beside
from provision.run import Run
from provision.selection import selected_hosts


@contextmanager
def connected(
    run: Run, ask: SecretPrompt | None = None, *, fronts: bool = False
) -> Iterator[tuple[Session, Mapping[str, ConnectError]]]:
    """Connect to the selected hosts; with `fronts`, also to the nginx hosts in front of their bots.

    Raises `ClawdError` that names all hosts that cannot be reached (unless the run skips those), all hosts
    where commands do not run as root, and all findings on the others.
    """
    hosts = selected_hosts(run.loaded.inventory, run.selection)
    additional = fronts_beside(run.loaded.inventory, hosts) if fronts else ()
    ask = ask or Terminal(run.progress.asking)
    with Session(run.loaded, hosts, run.log, additional=additional, ask=ask) as session:
        run.progress.step("connect")
        unreachable = session.connect()
        skipping = run.skip_unreachable and session.hosts
        errors: dict[str, ClawdError] = {} if skipping else dict(unreachable)
        errors |= _without_root(session)
        if errors:
            error = _together(run, session, errors)
            error.unreachable = {host: str(why) for host, why in unreachable.items()}
            raise error
        _warn_of_slow_logins(run, session)
        for host in session.hosts:
            if not run.loaded.inventory.hosts[host].internet:
                lend = partial(_lend_internet, session, host)
                lend()
                session.when_connected_again(host, lend)
        yield session, unreachable


def _lend_internet(session: Session, host: str) -> None:
    """Give a host access to its package sources through the laptop while this connection lasts."""
    inventory = session.inventory
    gate = PackageGate(
        lambda: session.run(host, SOURCES).stdout.splitlines(),
        repositories_of(inventory),
        mirrors_of(inventory),
    )
    port = share(host, session.transport(host), gate)
    session.set_data(host, "apt_options", apt_options(port))


def settled(run: Run, session: Session) -> None:
    """Wait on every host until cloud-init and other programs that use apt have ended.

    Raises `HostError` for hosts where they do not end within `apt.DEADLINE_S` seconds.
    """

    def wait(host: str) -> apt.Busy | None:
        return apt.wait(
            lambda: apt.Busy.read(session.run(host, apt.probe(), timeout=60).stdout),
            lambda what: run.progress.detail(f"{host}: {what}"),
        )

    busy = {host: found for host, found in session.everywhere(wait).items() if found}
    if busy:
        raise HostError(
            "\n".join(f"{host}: still waiting for {found}" for host, found in busy.items()),
            advice=next(iter(busy.values())).advice,
        )


def _without_root(session: Session) -> dict[str, ClawdError]:
    asked = outcomes(session.reached, session.require_root)
    return {host: error for host, error in asked.items() if isinstance(error, ClawdError)}


def _warn_of_slow_logins(run: Run, session: Session) -> None:
    for host in session.reached:
        link = session.links[host]
        if link.slow_start:
            run.progress.warn(
                f"{host}: the login shell of {link.user} takes {link.slow_start:.0f} s to start, which "
                "delays every command of this run; check its startup files (~/.bashrc, ~/.profile)"
            )


def _together(run: Run, session: Session, errors: Mapping[str, ClawdError]) -> ClawdError:
    """Return one error for these errors and for all findings on the other hosts."""
    found = list(errors.values())
    try:
        doctor.examine(
            run.loaded.inventory,
            session,
            run.progress,
            [host for host in session.hosts if host not in errors],
            run.loaded.place,
        )
    except ClawdError as findings:
        found.append(findings)
    if len(found) == 1:
        return found[0]
    advice = "nothing was changed on any host"
    if any(isinstance(error, ConnectError) for error in found):
        advice += "; `--skip-unreachable` continues with the hosts that can be reached"
    return HostError("\n".join(str(error) for error in found), advice=advice)
