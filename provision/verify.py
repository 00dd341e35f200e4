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
from provision import ssh
from provision.concurrency import for_each
from provision.session import Assignment

DEPLOYS = Path(deploys.__file__ or "").parent
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of one check on one host. `outcome` is passed, failed or error."""

    host: str
    component: str
    name: str
    outcome: str
    message: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether what was checked holds."""
        return self.outcome == "passed"


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcomes of all checks on all hosts."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that do not hold."""
        return tuple(check for check in self.checks if not check.passed)

    def to_json(self) -> dict[str, Any]:
        """The outcomes as JSON-able data: what `verify --json` prints."""
        return {
            "passed": len(self.checks) - len(self.failed),
            "failed": len(self.failed),
            "checks": [asdict(check) for check in self.checks],
        }


@dataclass(frozen=True, slots=True)
class HostBrief:
    """What the pytest process of one host is told, pickled, through a pipe."""

    host: str
    sudo: bool
    ssh_config: str
    control_path: str
    settings: Mapping[str, ComponentSettings]


def verify(loaded: Loaded, assignments: Mapping[str, Sequence[Assignment]]) -> Verification:
    """Runs every assigned component's checks on every host.

    Raises `VerifyError` when the checks of a host could not be run at all.
    """
    with tempfile.TemporaryDirectory(prefix="clawd-verify-") as name:
        folder = Path(name)
        declared = {host: loaded.inventory.hosts[host] for host in assignments}
        ssh.write_files(loaded.inventory, declared, folder)
        briefs = {
            host: HostBrief(
                host=host,
                sudo=declared[host].user != "root",
                ssh_config=str(ssh.config_file(folder)),
                # Short: the path of a socket has at most 104 bytes on some systems, and `ssh` adds to it.
                control_path=str(folder / f"{position}.sock"),
                settings={item.component.name: item.settings for item in assigned},
            )
            for position, (host, assigned) in enumerate(assignments.items())
        }
        try:
            outcomes = for_each(briefs, lambda host: _checks_of_host(briefs[host]), AT_ONCE)
        finally:
            for_each(briefs, lambda host: _end_connection(briefs[host]))
    return Verification(tuple(check for checks in outcomes.values() for check in checks))


def _checks_of_host(brief: HostBrief) -> tuple[Check, ...]:
    modules = [DEPLOYS / component / "verify.py" for component in brief.settings]
    present = [str(module) for module in modules if module.is_file()]
    briefing, brief_end = os.pipe()
    report_end, reporting = os.pipe()
    environment = {
        **os.environ,
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTHONPATH": os.pathsep.join([str(DEPLOYS.parent), os.environ.get("PYTHONPATH", "")]),
        "CLAWD_VERIFY_BRIEF": str(briefing),
        "CLAWD_VERIFY_REPORT": str(reporting),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", str(DEPLOYS.parent)]
    command += [
        "--import-mode=importlib",
        "-p",
        "no:cacheprovider",
        "-p",
        "provision.verify_plugin",
        *present,
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
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


def _end_connection(brief: HostBrief) -> None:
    subprocess.run(
        [
            "ssh",
            "-F",
            brief.ssh_config,
            "-o",
            f"ControlPath={brief.control_path}",
            "-O",
            "exit",
            brief.host,
        ],
        capture_output=True,
        check=False,
        timeout=10,
    )
