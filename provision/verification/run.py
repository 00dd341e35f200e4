"""Verification of hosts with the components' own testinfra checks.

Each host has its own pytest process, several at once, which uses one shell on the host over the run's SSH
connection. The settings for the checks are passed to the process through a pipe, never as arguments or files.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gevent
from gevent.fileobject import FileObject

import deploys
from deploys.component import ComponentSettings
from inventory.errors import ClawdError, ConnectError, VerifyError, with_hint
from inventory.load import LoadedInventory
from provision.assignment import Assignment
from provision.connection.link import HostConnection, RemoteProcess
from provision.connection.session import links_to
from provision.local.ask import NoTerminal
from provision.local.concurrency import enabled, for_each

DEPLOYS = Path(deploys.__file__ or "").parent
CONNECTION = "connection"
"""Name used instead of a component for the check that a host can be reached."""
AT_ONCE = 8
NOT_INHERITED = {"PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONOPTIMIZE"}
_PIECE = 1 << 16


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check on one host. `outcome` is passed, failed, error or skipped."""

    host: str
    component: str
    name: str
    outcome: str
    message: str = ""
    """What is wrong, or why it was skipped; empty when it passed."""
    hint: str = ""
    """What to do about it."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Return whether the check passed."""
        return self.outcome == "passed"

    @property
    def skipped(self) -> bool:
        """Return whether the check was skipped, for the reason in `message`."""
        return self.outcome == "skipped"


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcomes of all checks on all hosts."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Return the checks that failed."""
        return tuple(check for check in self.checks if not check.passed and not check.skipped)

    @property
    def skipped(self) -> tuple[Check, ...]:
        """Return the checks that were skipped."""
        return tuple(check for check in self.checks if check.skipped)

    @property
    def unreachable(self) -> dict[str, str]:
        """Return the hosts that could not be reached, or whose connection was lost, with the reason."""
        return {
            check.host: with_hint(check.message, check.hint)
            for check in self.failed
            if check.component == CONNECTION
        }

    def to_json(self) -> dict[str, Any]:
        """Return the outcomes as data for JSON, as printed by `verify --json`."""
        return {
            "passed": sum(check.passed for check in self.checks),
            "failed": len(self.failed),
            "skipped": len(self.skipped),
            "checks": [asdict(check) for check in self.checks],
        }


@dataclass(frozen=True, slots=True)
class HostBrief:
    """The input of the pytest process of one host, sent pickled through a pipe."""

    host: str
    settings: Mapping[str, ComponentSettings]


def verify(
    loaded: LoadedInventory,
    assignments: Mapping[str, Sequence[Assignment]],
    links: Mapping[str, HostConnection] | None = None,
) -> Verification:
    """Run the checks of all assigned components on all hosts, over `links` if given.

    A host that cannot be reached has one failed check, `reachable` of `connection`; a host whose checks could
    not be run has `could be run` of `checks`.

    Raises `RuntimeError` when blocking calls are not cooperative: waiting for a host would never end.
    """
    if not enabled():
        raise RuntimeError("call provision.local.concurrency.enable() before anything else")
    if links is None:
        links = own = links_to(loaded, assignments, NoTerminal())
    else:
        own = {}
    try:
        outcomes = for_each(
            assignments, lambda host: _checks_of_host(links[host], assignments[host]), AT_ONCE
        )
    finally:
        for link in own.values():
            link.close()
    return Verification(tuple(check for checks in outcomes.values() for check in checks))


def _checks_of_host(link: HostConnection, assigned: Sequence[Assignment]) -> tuple[Check, ...]:
    host = link.name
    settings = {item.component.name: item.settings for item in assigned if item.settings is not None}
    present = [module for name in settings if (module := DEPLOYS / name / "verify.py").is_file()]
    # Without a path pytest would collect and run the tests of the current folder.
    if not present:
        return ()
    try:
        if not link.opened or link.lost:
            link.connect()
        shell = link.start("sh", root=True)
    except ClawdError as error:
        return (Check(host, CONNECTION, "reachable", "failed", error.message, error.advice),)
    try:
        checks = _run_checks(HostBrief(host, settings), present, shell)
    except VerifyError as error:
        checks = (Check(host, "checks", "could be run", "error", error.message, error.advice),)
    finally:
        shell.close()
    try:
        link.check()
    except ConnectError as gone:
        return (Check(host, CONNECTION, "reachable", "failed", gone.message, gone.advice), *checks)
    return checks


def _run_checks(brief: HostBrief, modules: Sequence[Path], shell: RemoteProcess) -> tuple[Check, ...]:
    briefing, brief_end = os.pipe()
    report_end, reporting = os.pipe()
    with _at_hand(shell) as (stdin, stdout, stderr):
        theirs = (briefing, reporting, stdin, stdout, stderr)
        process = subprocess.Popen(
            pytest_command(modules),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={
                **_environment(briefing, reporting),
                "CLAWD_VERIFY_SHELL": f"{stdin},{stdout},{stderr}",
            },
            pass_fds=theirs,
        )
        for end in theirs:
            os.close(end)
        with FileObject(brief_end, "wb") as briefs, FileObject(report_end, "rb") as reports:
            briefs.write(pickle.dumps(brief))
            briefs.close()
            printing = gevent.spawn(process.communicate)
            lines = reports.read().decode().splitlines()
            printed, _ = printing.get()
    if process.returncode not in (0, 1):
        raise VerifyError(
            f"{brief.host}: cannot run the checks: {printed.decode(errors='replace')[-2000:]}",
            advice="this is an internal error: please report it with these lines",
        )
    return tuple(Check(brief.host, **json.loads(line)) for line in lines)


@contextmanager
def _at_hand(shell: RemoteProcess) -> Iterator[tuple[int, int, int]]:
    """Yield pipes to a shell on a host for another process: standard input, output and error output.

    The caller passes them on and closes them.
    """
    (from_them, stdin), (stdout, to_them), (stderr, to_them_too) = os.pipe(), os.pipe(), os.pipe()
    with (
        FileObject(from_them, "rb", buffering=0) as commands,
        FileObject(to_them, "wb", buffering=0) as out,
        FileObject(to_them_too, "wb", buffering=0) as err,
    ):
        copies = [
            gevent.spawn(_copy, commands.read, shell.write, shell.close_stdin),
            gevent.spawn(_copy, shell.stdout.read1, out.write, out.close),
            gevent.spawn(_copy, shell.stderr.read1, err.write, err.close),
        ]
        try:
            yield stdin, stdout, stderr
        finally:
            gevent.killall(copies)


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], object], end: Callable[[], None]) -> None:
    """Copy bytes until either side ends; errors are reported where the commands are run."""
    with suppress(OSError, EOFError):
        while piece := read(_PIECE):
            write(piece)
    with suppress(OSError, EOFError):
        end()


def pytest_command(modules: Sequence[Path]) -> list[str]:
    """Return the command that runs only the program's own checks, in any current folder."""
    return [
        *(sys.executable, "-P", "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(DEPLOYS.parent)),
        # Checks report what is wrong themselves; pytest would add the values of expressions.
        "--assert=plain",
        *("--import-mode=importlib", "-p", "no:cacheprovider", "-p", "provision.verification.plugin"),
        *map(str, modules),
    ]


def _environment(briefing: int, reporting: int) -> dict[str, str]:
    # An empty entry would mean the current folder.
    inherited = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {
        # With PYTHONOPTIMIZE Python skips assertions, and every check would pass.
        **{name: value for name, value in os.environ.items() if name not in NOT_INHERITED},
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(DEPLOYS.parent), *inherited]),
        "CLAWD_VERIFY_BRIEF": str(briefing),
        "CLAWD_VERIFY_REPORT": str(reporting),
    }
