"""Checks that several components share, on a testinfra host, and the error that a failed check raises."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509

from deploys.ops.programs import program
from deploys.ops.services import ENABLED, stamp_of, stamp_path
from deploys.topology.certificates import LEAST_DAYS


class CheckFailed(AssertionError):
    """A failed check: the `problem`, with its location, and a `hint` what to do (empty: the default one)."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.hint = hint


def expect(holds: object, problem: str, hint: str = "") -> None:
    """Raise `CheckFailed` with this `problem` and `hint` unless it `holds`."""
    if not holds:
        raise CheckFailed(problem, hint)


@dataclass(frozen=True, slots=True)
class UnitOnHost:
    """A systemd unit as `systemctl show` describes it."""

    load: str
    active: str
    enabled: str
    result: str
    stale: bool
    drop_ins: tuple[str, ...]
    restarts: int = 0
    """How often systemd restarted it after an unexpected exit, since it was last started."""
    active_since: float = 0
    """When it became active, in seconds since the host was started."""

    @classmethod
    def of(cls, host: Any, unit: str) -> UnitOnHost:
        """Return the state of `unit` on `host`."""
        names = "LoadState,ActiveState,UnitFileState,Result,NeedDaemonReload,DropInPaths"
        names += ",NRestarts,ActiveEnterTimestampMonotonic"
        shown = host.check_output("systemctl show --property %s %s", names, unit)
        values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        return cls(
            load=values.get("LoadState", "not-found"),
            active=values.get("ActiveState", "inactive"),
            enabled=values.get("UnitFileState", ""),
            result=values.get("Result", ""),
            stale=values.get("NeedDaemonReload") == "yes",
            drop_ins=tuple(values.get("DropInPaths", "").split()),
            restarts=int(values.get("NRestarts") or 0),
            active_since=int(values.get("ActiveEnterTimestampMonotonic") or 0) / 1e6,
        )


def expect_unit(host: Any, unit: str, *, at_boot: bool = True) -> None:
    """Raise `CheckFailed` unless `unit` is loaded, runs, starts `at_boot`, and systemd has read its files.

    A manual drop-in that makes it run something else, or only under a condition, is a failure.
    """
    state = UnitOnHost.of(host, unit)
    log = f"run `up`; if that does not help, read `journalctl --namespace='*' -u {unit}` on the host"
    expect(
        state.load != "masked", f"{unit} is masked, so it cannot run", f"`systemctl unmask {unit}`, or `up`"
    )
    expect(state.load == "loaded", f"{unit} cannot be loaded: {state.load}", log)
    failed = f", its last run ended with {state.result}" if state.result not in ("", "success") else ""
    expect(state.active == "active", f"{unit} does not run: it is {state.active}{failed}", log)
    expect(not at_boot or state.enabled in ENABLED, f"{unit} does not start at boot: it is {state.enabled}")
    expect(not state.stale, f"the files of {unit} changed, and systemd has not read them")
    expect_as_shipped(host, unit, state)
    if state.restarts >= RESTARTS:
        ago = float(host.check_output("cat /proc/uptime").split()[0]) - state.active_since
        often = f"{unit} keeps ending: systemd restarted it {state.restarts} times, last {ago:.0f} s ago"
        expect(ago >= STEADY_S, often, f"read `journalctl --namespace='*' -u {unit}` on the host")


RESTARTS, STEADY_S = 3, 300
"""A service that was restarted this often, and runs for less than this since, will end again."""


def expect_at_boot(host: Any, unit: str) -> None:
    """Raise `CheckFailed` unless `unit` starts at boot with its files as shipped, running or not."""
    state = UnitOnHost.of(host, unit)
    expect_as_shipped(host, unit, state)
    expect(state.enabled in ENABLED, f"{unit} does not start at boot: it is {state.enabled or 'missing'}")


def expect_as_shipped(host: Any, unit: str, state: UnitOnHost | None = None) -> None:
    """Raise `CheckFailed` when `unit` is masked or a manual drop-in makes it do something else or nothing."""
    state = state or UnitOnHost.of(host, unit)
    expect(
        state.load != "masked", f"{unit} is masked, so it cannot run", f"`systemctl unmask {unit}`, or `up`"
    )
    by_hand = [
        path
        for path in state.drop_ins
        if path.startswith(("/etc/", "/run/")) and "clawd" not in path.rsplit("/", 1)[-1]
    ]
    if by_hand:
        found = host.run("grep -lE %s -- " + " ".join(["%s"] * len(by_hand)), CHANGES_THE_UNIT, *by_hand)
        changing = ", ".join(found.stdout.split())
        hint = "remove that file and run `systemctl daemon-reload`; what should last belongs in `templates/`"
        expect(not changing, f"{unit} is changed by {changing}", hint)


CHANGES_THE_UNIT = (
    r"^[[:space:]]*(ExecStart|ExecCondition|Condition[A-Za-z]+|Assert[A-Za-z]+|On[A-Z][A-Za-z]+|Unit|RootDirectory"
    r"|RootImage|Listen[A-Z][A-Za-z]+)[[:space:]]*="
)
"""Settings of a drop-in that make a unit run something else, at other times, or not at all."""


def expect_started_with(
    host: Any, unit: str, *, inputs: str = "", watch: Sequence[str] = (), at_boot: bool = True
) -> None:
    """Raise `CheckFailed` unless `unit` passes `expect_unit` and runs with the files that are on the disk.

    The files that it reads must be those with which `services.converge` last started it.
    """
    expect_unit(host, unit, at_boot=at_boot)
    watched = [f"{host.file(path).sha256sum}  {path}" for path in watch if host.file(path).is_file]
    stamp = host.file(stamp_path(unit))
    started = stamp.content_string.strip() if stamp.is_file else ""
    expect(
        started == stamp_of(inputs, watched),
        f"{unit} runs with something else than it was started with: "
        f"{', '.join(watch) or 'its settings'} changed since",
        "run `up`: it restores the files and starts the service with them",
    )


def expect_timer(
    host: Any, timer: str, *, hours: float, watch: Sequence[str] | None = None, service: str = ""
) -> None:
    """Raise `CheckFailed` unless `timer` runs, starts its service within `hours`, and that did not fail.

    With `watch`, these files must be as they were when the timer was last started.
    """
    if watch is None:
        expect_unit(host, timer)
    else:
        expect_started_with(host, timer, watch=watch)
    service = service or f"{timer.removesuffix('.timer')}.service"
    expect_as_shipped(host, service)
    listed = json.loads(host.check_output("systemctl list-timers --all --output=json %s", timer) or "[]")
    state = UnitOnHost.of(host, service)
    due = min((item["next"] for item in listed if item.get("next")), default=0) / 1e6
    now = int(host.check_output("date +%s"))
    if state.active not in ("active", "activating"):
        expect(due, f"{timer} has no next time, so {service} never runs", "run `systemctl cat` on it")
        late = f"{timer} starts {service} only in {(due - now) / 3600:.0f} hours"
        expect(due - now <= hours * 3600, late, f"`systemctl cat {timer}` shows which file sets it")
    expect(
        state.active != "failed" and state.result in ("", "success"),
        f"the last run of {service} ended with {state.result}",
        f"read `journalctl --namespace='*' -u {service}` on the host",
    )


def expect_content(host: Any, path: str, declared: str) -> None:
    """Raise `CheckFailed` unless the file at `path` is exactly as declared."""
    file = host.file(path)
    expect(file.is_file, f"{path} is missing")
    expect(file.content_string == declared, f"{path} is not as declared")


def expect_owner(host: Any, path: str, user: str, mode: int, *, group: str | None = None) -> None:
    """Raise `CheckFailed` unless `path` belongs to `user` (and `group`) with this mode."""
    file = host.file(path)
    expect(file.exists, f"{path} is missing")
    found, wanted = f"{file.user}:{file.group} {file.mode:04o}", f"{user}:{group or file.group} {mode:04o}"
    expect(found == wanted, f"{path} is {found}, and should be {wanted}")


def expect_original(host: Any, *programs: str) -> None:
    """Raise `CheckFailed` when one of these programs, names or paths, is not as its package installed it."""
    found = host.check_output("sh -c %s sh " + " ".join(["%s"] * len(programs)), ORIGINAL, *programs)
    expect(
        not found,
        f"not as installed by its package: {', '.join(found.split())}",
        "find out who replaced it; `apt-get install --reinstall` the package that `dpkg -S` names",
    )


ORIGINAL = program("deploys/ops/scripts/original.sh")


def listening(host: Any, port: int, *, udp: bool = False) -> set[str]:
    """Return the addresses on which a process listens on `port`."""
    shown = host.check_output(f"ss -Hl{'u' if udp else 't'}n sport = :%s", str(port)).splitlines()
    return {line.split()[3].rpartition(":")[0] for line in shown}


def expect_listening(host: Any, port: int, addresses: Iterable[str], name: str) -> None:
    """Raise `CheckFailed` unless `name` listens on `port` at exactly these addresses."""
    found, wanted = listening(host, port), set(addresses)
    expect(found, f"{name} does not listen on port {port}", "run `up`, which starts it")
    expect(
        found == wanted,
        f"{name} listens on {', '.join(sorted(found))}, and should on {', '.join(sorted(wanted))}",
    )


def said(done: Any) -> str:
    """Return the last line of a command's standard error, or else of its standard output."""
    lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return lines[-1] if lines else f"it ended with {done.rc}"


def expect_certificate(host: Any, folder: str) -> None:
    """Raise `CheckFailed` when the certificate in `folder`, renewed by `up`, is invalid or expires soon."""
    path = f"{folder}/fullchain.pem"
    expect(host.file(path).is_file, f"{path} is missing", "run `up`, which makes one")
    try:
        end = x509.load_pem_x509_certificate(host.file(path).content).not_valid_after_utc
    except ValueError:
        raise CheckFailed(f"{path} is no certificate", "run `up`, which makes one") from None
    left = end - datetime.now(UTC)
    ends = "ends" if left > timedelta() else "ended"
    expect(left > timedelta(days=LEAST_DAYS), f"{path} {ends} on {end:%Y-%m-%d}", "run `up`, which renews it")
