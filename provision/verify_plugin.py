"""The pytest plugin inside a verification process: gives `host` and `settings`, reports outcomes.

Loaded by `provision.verify` with `-p provision.verify_plugin`; reads its `HostBrief` from the file descriptor
in `CLAWD_VERIFY_BRIEF` and writes a line of JSON a check to the one in `CLAWD_VERIFY_REPORT`. The host's
shell is at the three in `CLAWD_VERIFY_SHELL`. What the checks of each component found is remembered on the
host, see `provision.verified`.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import testinfra.host

from deploys.ops.checks import CheckFailed
from inventory.errors import VerifyError
from provision import verified
from provision.verify_shell import Ends, ShellBackend

if TYPE_CHECKING:
    from deploys.component import ComponentSettings
    from provision.verify import HostBrief

MESSAGE_LINES = 12
USUAL_HINT = "run `up`, which restores what differs on the host; then `verify` again"


class CheckedHost(testinfra.host.Host):  # type: ignore[misc]
    """A testinfra host whose failed commands are reported by what they printed."""

    def check_output(self, command: str, *args: str, **keywords: Any) -> str:
        """Return what a command prints. Raise `CheckFailed` when it fails."""
        done = self.run(command, *args, **keywords)
        if done.rc != 0:
            printed = (done.stderr.strip() or done.stdout.strip()).splitlines()
            why = printed[-1] if printed else f"it ended with {done.rc}"
            program = " ".join(command.split()[:3])
            raise CheckFailed(f"`{program}` failed on the host: {why}")
        return str(done.stdout.rstrip("\r\n"))


def pytest_configure(config: pytest.Config) -> None:
    """Takes the brief and looks only at `verify.py` files."""
    with os.fdopen(int(os.environ["CLAWD_VERIFY_BRIEF"]), "rb") as told:
        config.stash[_BRIEF] = pickle.load(told)  # noqa: S301 - from our own parent process
    config.addinivalue_line("python_files", "verify.py")


@pytest.fixture(scope="session")
def brief(pytestconfig: pytest.Config) -> HostBrief:
    """The host being verified, as declared."""
    told: HostBrief = pytestconfig.stash[_BRIEF]
    return told


@pytest.fixture(scope="session")
def host(brief: HostBrief) -> Iterator[Any]:
    """The testinfra host, as root, over one shared connection."""
    stdin, stdout, stderr = map(int, os.environ["CLAWD_VERIFY_SHELL"].split(","))
    backend = ShellBackend(brief.host, Ends(stdin, stdout, stderr))
    found = CheckedHost(backend)
    backend.set_host(found)
    run = verified.new_run()
    _remember(found, {name: verified.Record.now("due", run) for name in brief.settings})
    yield found
    ended = {
        name: verified.Record.now("failed" if failed else "passed", run, failed)
        for name, failed in _FAILED.items()
    }
    # Where the connection broke, the components stay due.
    with suppress(VerifyError):
        _remember(found, ended, of_run=run)
    backend.close()


@pytest.fixture
def settings(brief: HostBrief, request: pytest.FixtureRequest) -> ComponentSettings:
    """What the component being checked should be on this host."""
    return brief.settings[request.path.parent.name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports a check when it ran, or when it could not be set up."""
    report = yield
    if report.when != "call" and report.outcome == "passed":
        return report
    component = item.path.parent.name
    name = item.name.removeprefix("test_").replace("_", " ")
    problem, hint, outcome = "", "", str(report.outcome)
    if report.skipped:
        problem = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else ""
        problem = problem.removeprefix("Skipped: ")
    elif call.excinfo is not None:
        problem, hint = explained(call.excinfo.value)
        if report.when != "call" or not isinstance(call.excinfo.value, AssertionError):
            outcome = "error"
    failed = _FAILED.setdefault(component, [])
    if problem and not report.skipped:
        failed.append(name)
    _report(component, name, outcome, problem, hint, report.duration)
    return report


def explained(error: BaseException) -> tuple[str, str]:
    """Return what a check raised as a problem and a hint, without anything of Python or pytest."""
    if isinstance(error, CheckFailed):
        return _cut(error.problem), error.hint or USUAL_HINT
    if isinstance(error, AssertionError) and error.args:
        return _cut(str(error.args[0])), USUAL_HINT
    why = str(error).strip() or type(error).__name__
    return _cut(f"the check could not be completed: {why}"), USUAL_HINT


def _cut(text: str) -> str:
    return "\n".join(text.splitlines()[:MESSAGE_LINES])


def _remember(host: Any, records: dict[str, verified.Record], *, of_run: str = "") -> None:
    if not records:
        return
    done = host.run("sh -c %s", verified.writing(records, of_run=of_run))
    if done.rc != 0:
        problem = f"the result could not be noted in {verified.FOLDER}: {done.stderr.strip()}"
        hint = "free disk space on the host, or find out why it is read-only"
        _report("checks", "result is remembered", "failed", problem, hint)


def _report(component: str, name: str, outcome: str, message: str, hint: str, seconds: float = 0.0) -> None:
    told = {
        "component": component,
        "name": name,
        "outcome": outcome,
        "message": message,
        "hint": hint,
        "seconds": round(seconds, 3),
    }
    os.write(int(os.environ["CLAWD_VERIFY_REPORT"]), (json.dumps(told) + "\n").encode())


_BRIEF = pytest.StashKey[Any]()
_FAILED: dict[str, list[str]] = {}
"""The names of the checks that failed, by component; of each whose checks ran."""
