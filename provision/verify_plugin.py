"""The pytest plugin inside a verification process: gives `host` and `settings`, reports outcomes.

Loaded by `provision.verify` with `-p provision.verify_plugin`; reads its `HostBrief` from the file descriptor
in `CLAWD_VERIFY_BRIEF` and writes a line of JSON a check to the one in `CLAWD_VERIFY_REPORT`.
"""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
import testinfra.host

from provision.verify_shell import ShellBackend

if TYPE_CHECKING:
    from deploys.component import ComponentSettings
    from provision.verify import HostBrief

MESSAGE_LINES = 12


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
    backend = ShellBackend(brief.host, brief.shell)
    found = testinfra.host.Host(backend)
    backend.set_host(found)
    yield found
    backend.close()


@pytest.fixture
def settings(brief: HostBrief, request: pytest.FixtureRequest) -> ComponentSettings:
    """What the component being checked should be on this host."""
    return brief.settings[request.path.parent.name]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Reports a check when it ran, or when it could not be set up."""
    if report.when != "call" and report.outcome == "passed":
        return
    outcome = report.outcome if report.when == "call" or report.skipped else "error"
    told = {
        "component": report.nodeid.split("::", 1)[0].split("/")[-2],
        "name": report.nodeid.split("::", 1)[1].removeprefix("test_").replace("_", " "),
        "outcome": outcome,
        "message": _message(report),
        "seconds": round(report.duration, 3),
    }
    os.write(int(os.environ["CLAWD_VERIFY_REPORT"]), (json.dumps(told) + "\n").encode())


def _message(report: pytest.TestReport) -> str:
    if report.outcome == "passed":
        return ""
    if report.skipped and isinstance(report.longrepr, tuple):
        return str(report.longrepr[2]).removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    text = crash.message if crash else str(report.longrepr)
    return "\n".join(text.splitlines()[:MESSAGE_LINES])


_BRIEF = pytest.StashKey[Any]()
