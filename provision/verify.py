"""Checks that hosts are what the inventory says, by the components' own testinfra checks.

A pytest process a host, several at once, each over one SSH connection. What a check may see of the
inventory goes to the process through a pipe, never through its arguments or a file.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gevent
from gevent.fileobject import FileObject

import deploys
from deploys.component import ComponentSettings
from inventory.errors import VerifyError
from inventory.load import Loaded
from inventory.model import Host
from provision import ssh
from provision.concurrency import for_each
from provision.session import Assignment

DEPLOYS = Path(deploys.__file__ or "").parent
AT_ONCE = 8
MOST_CONNECTING_S = 3 * ssh.CONNECT_TIMEOUT
CONNECTION_KEPT = "60s"
NOT_INHERITED = {"PYTEST_ADDOPTS", "PYTEST_PLUGINS", "PYTHONOPTIMIZE"}


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check on one host. `outcome` is passed, failed, error or skipped."""

    host: str
    component: str
    name: str
    outcome: str
    message: str = ""
    """What is wrong, or why it could not be tried; empty when it passed."""
    hint: str = ""
    """What to do about it."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether what was checked holds."""
        return self.outcome == "passed"

    @property
    def skipped(self) -> bool:
        """Whether it could not be tried, for a reason that `message` tells; neither good nor bad."""
        return self.outcome == "skipped"


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcomes of all checks on all hosts."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if not check.passed and not check.skipped)

    @property
    def skipped(self) -> tuple[Check, ...]:
        """The checks that could not be tried."""
        return tuple(check for check in self.checks if check.skipped)

    def to_json(self) -> dict[str, Any]:
        """The outcomes as JSON-able data: what `verify --json` prints."""
        return {
            "passed": sum(check.passed for check in self.checks),
            "failed": len(self.failed),
            "skipped": len(self.skipped),
            "checks": [asdict(check) for check in self.checks],
        }


@dataclass(frozen=True, slots=True)
class HostBrief:
    """What the pytest process of one host is told, pickled, through a pipe."""

    host: str
    shell: Sequence[str]
    """The command that opens a shell there, as root, over the connection that is open."""
    settings: Mapping[str, ComponentSettings]


@dataclass(frozen=True, slots=True)
class Connection:
    """One SSH connection to a host, kept open for its checks."""

    host: str
    declared: Host
    config: str
    control_path: str

    @property
    def ssh(self) -> tuple[str, ...]:
        """`ssh` over this connection; what it takes further is added."""
        return ("ssh", "-F", self.config, "-o", f"ControlPath={self.control_path}")

    @property
    def shell(self) -> tuple[str, ...]:
        """The command that opens a shell on the host, as root."""
        return (*self.ssh, self.host, "sh" if self.declared.user == "root" else "sudo -n sh")


def verify(loaded: Loaded, assignments: Mapping[str, Sequence[Assignment]]) -> Verification:
    """Runs every assigned component's checks on every host.

    A host that cannot be reached has one failed check, `reachable` of `connection`; one whose checks could
    not be run, `could be run` of `checks`.
    """
    with tempfile.TemporaryDirectory(prefix="clawd-verify-") as name:
        folder = Path(name)
        declared = {host: loaded.inventory.reached(host) for host in assignments}
        ssh.write_files(loaded.inventory, declared, folder)
        config = str(ssh.config_file(folder))
        connections = {
            # Short: the path of a socket has at most 104 bytes on some systems, and `ssh` adds to it.
            host: Connection(host, declared[host], config, str(folder / f"{position}.sock"))
            for position, host in enumerate(assignments)
        }
        try:
            outcomes = for_each(
                connections, lambda host: _checks_of_host(connections[host], assignments[host]), AT_ONCE
            )
        finally:
            for_each(connections, lambda host: _end_connection(connections[host]))
    return Verification(tuple(check for checks in outcomes.values() for check in checks))


def _checks_of_host(connection: Connection, assigned: Sequence[Assignment]) -> tuple[Check, ...]:
    host = connection.host
    settings = {item.component.name: item.settings for item in assigned if item.settings is not None}
    present = [module for name in settings if (module := DEPLOYS / name / "verify.py").is_file()]
    # Without a path pytest would collect, and so run, whatever lies in the current folder.
    if not present:
        return ()
    if problem := _open_connection(connection):
        error = ssh.connect_error(host, connection.declared, problem)
        return (Check(host, "connection", "reachable", "failed", error.message, error.advice),)
    try:
        return _run_checks(HostBrief(host, connection.shell, settings), present)
    except VerifyError as error:
        return (Check(host, "checks", "could be run", "error", error.message, error.advice),)


def _run_checks(brief: HostBrief, modules: Sequence[Path]) -> tuple[Check, ...]:
    briefing, brief_end = os.pipe()
    report_end, reporting = os.pipe()
    process = subprocess.Popen(
        pytest_command(modules),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(briefing, reporting),
        pass_fds=(briefing, reporting),
    )
    os.close(briefing)
    os.close(reporting)
    with FileObject(brief_end, "wb") as told, FileObject(report_end, "rb") as reports:
        told.write(pickle.dumps(brief))
        told.close()
        printing = gevent.spawn(process.communicate)
        lines = reports.read().decode().splitlines()
        printed, _ = printing.get()
    if process.returncode not in (0, 1):
        raise VerifyError(
            f"{brief.host}: its checks could not be run\n{printed.decode(errors='replace')[-2000:]}"
        )
    return tuple(Check(brief.host, **json.loads(line)) for line in lines)


def pytest_command(modules: Sequence[Path]) -> list[str]:
    """The command that runs checks: nothing but ours, wherever it is started."""
    return [
        *(sys.executable, "-P", "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(DEPLOYS.parent)),
        # A check says itself what is wrong; pytest would add the values of its expressions.
        "--assert=plain",
        *("--import-mode=importlib", "-p", "no:cacheprovider", "-p", "provision.verify_plugin"),
        *map(str, modules),
    ]


def _environment(briefing: int, reporting: int) -> dict[str, str]:
    # An empty entry would mean the current folder.
    inherited = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    return {
        # Optimized, Python leaves out assertions: every check would pass.
        **{name: value for name, value in os.environ.items() if name not in NOT_INHERITED},
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(DEPLOYS.parent), *inherited]),
        "CLAWD_VERIFY_BRIEF": str(briefing),
        "CLAWD_VERIFY_REPORT": str(reporting),
    }


def _open_connection(connection: Connection) -> str:
    """Opens the connection that the checks share; returns what `ssh` says when it cannot."""
    master = ["-o", "ControlMaster=auto", "-o", f"ControlPersist={CONNECTION_KEPT}"]
    # A file: what stays behind to hold the connection would keep a pipe open.
    with tempfile.TemporaryFile() as said:
        try:
            done = subprocess.run(
                [*connection.ssh, *master, connection.host, "true"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                check=False,
                timeout=MOST_CONNECTING_S,
            )
        except subprocess.TimeoutExpired:
            return f"no answer within {MOST_CONNECTING_S} s"
        said.seek(0)
        message = said.read().decode(errors="replace").strip()
    if done.returncode == 0:
        return ""
    return message or f"`ssh {connection.host} true` ended with {done.returncode}"


def _end_connection(connection: Connection) -> None:
    if Path(connection.control_path).exists():
        command = [*connection.ssh, "-O", "exit", connection.host]
        subprocess.run(command, capture_output=True, check=False, timeout=10)
