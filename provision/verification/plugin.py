"""The pytest plugin of a verification process: provides `host` and `settings`, and reports outcomes.

`provision.verification.run` loads it with `-p provision.verification.plugin`. It reads its `HostBrief` from
the file descriptor in `CLAWD_VERIFY_BRIEF` and writes one line of JSON for each check to the one in
`CLAWD_VERIFY_REPORT`. The three descriptors in `CLAWD_VERIFY_SHELL` belong to the host's shell. The results
of each component are stored on the host, see `provision.verification.results`.
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
from provision.verification import results
from provision.verification.shell import Ends, ShellBackend

if TYPE_CHECKING:
    from deploys.component import ComponentSettings
    from provision.verification.run import HostBrief

MESSAGE_LINES = 12
USUAL_HINT = "run `up` to restore what differs on the host, then `verify` again"


class CheckedHost(testinfra.host.Host):  # type: ignore[misc]
    """A testinfra host that reports failed commands with their output."""

    def check_output(self, command: str, *args: str, **keywords: Any) -> str:
        """Return the output of a command. Raises `CheckFailed` when it fails."""
        done = self.run(command, *args, **keywords)
        if done.rc != 0:
            printed = (done.stderr.strip() or done.stdout.strip()).splitlines()
            why = printed[-1] if printed else f"exit status {done.rc}"
            program = " ".join(command.split()[:3])
            raise CheckFailed(f"`{program}` failed on the host: {why}")
        return str(done.stdout.rstrip("\r\n"))


def pytest_configure(config: pytest.Config) -> None:
    """Read the brief, and collect only `verify.py` files."""
    with os.fdopen(int(os.environ["CLAWD_VERIFY_BRIEF"]), "rb") as briefs:
        config.stash[_BRIEF] = pickle.load(briefs)  # noqa: S301 - from the parent process
    config.addinivalue_line("python_files", "verify.py")


@pytest.fixture(scope="session")
def brief(pytestconfig: pytest.Config) -> HostBrief:
    """Return the declaration of the host being verified."""
    declared: HostBrief = pytestconfig.stash[_BRIEF]
    return declared


@pytest.fixture(scope="session")
def host(brief: HostBrief) -> Iterator[Any]:
    """Yield the testinfra host, as root, over one shared connection."""
    stdin, stdout, stderr = map(int, os.environ["CLAWD_VERIFY_SHELL"].split(","))
    backend = ShellBackend(brief.host, Ends(stdin, stdout, stderr))
    found = CheckedHost(backend)
    backend.set_host(found)
    run = results.new_run()
    _remember(found, {name: results.Record.now("due", run) for name in brief.settings})
    yield found
    ended = {
        name: results.Record.now("failed" if failed else "passed", run, failed)
        for name, failed in _FAILED.items()
    }
    # If the connection was lost, the components stay due.
    with suppress(VerifyError):
        _remember(found, ended, of_run=run)
    backend.close()


@pytest.fixture
def settings(brief: HostBrief, request: pytest.FixtureRequest) -> ComponentSettings:
    """Return the settings of the component being checked on this host."""
    return brief.settings[request.path.parent.name]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Report a check when it ran or its setup failed."""
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
    """Return the problem and the hint of a check's exception, without details of Python or pytest."""
    if isinstance(error, CheckFailed):
        return _cut(error.problem), error.hint or USUAL_HINT
    if isinstance(error, AssertionError) and error.args:
        return _cut(str(error.args[0])), USUAL_HINT
    why = str(error).strip() or type(error).__name__
    return _cut(f"the check could not be completed: {why}"), USUAL_HINT


def _cut(text: str) -> str:
    return "\n".join(text.splitlines()[:MESSAGE_LINES])


def _remember(host: Any, records: dict[str, results.Record], *, of_run: str = "") -> None:
    if not records:
        return
    done = host.run("sh -c %s", results.writing(records, of_run=of_run))
    if done.rc != 0:
        problem = f"cannot store the result in {results.FOLDER}: {done.stderr.strip()}"
        hint = "free disk space on the host, or find out why it is read-only"
        _report("checks", "result is remembered", "failed", problem, hint)


def _report(component: str, name: str, outcome: str, message: str, hint: str, seconds: float = 0.0) -> None:
    line = {
        "component": component,
        "name": name,
        "outcome": outcome,
        "message": message,
        "hint": hint,
        "seconds": round(seconds, 3),
    }
    os.write(int(os.environ["CLAWD_VERIFY_REPORT"]), (json.dumps(line) + "\n").encode())


_BRIEF = pytest.StashKey[Any]()
_FAILED: dict[str, list[str]] = {}
"""The names of failed checks by component, for each component whose checks ran."""
