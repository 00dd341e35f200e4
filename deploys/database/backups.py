"""Nightly dumps: their programs, their timer, and the first dump."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.database.settings import BackupSettings
from deploys.metrics import TEXTFILES
from deploys.ops import services
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact, LineFact
from deploys.ops.paths import files
from deploys.ops.run_state import Change
from deploys.ops.services import Service
from deploys.ops.shell import assignments, script
from deploys.topology.database import NAME

ENVIRONMENT = "/etc/clawd/database-backup.env"
PROGRAMS = "/usr/local/lib/clawd"
BACKUP = f"{PROGRAMS}/backup-database"
METRICS = f"{PROGRAMS}/backup-metrics"
RESTORE = f"{PROGRAMS}/restore-database"
SERVICE = "/etc/systemd/system/clawd-database-backup.service"
TIMER = "/etc/systemd/system/clawd-database-backup.timer"
UNIT = "clawd-database-backup.timer"
READS = (TIMER, SERVICE, ENVIRONMENT, BACKUP, METRICS, RESTORE)
"""The programs are among them so that a difference in one restarts the timer."""
METRICS_FILE = f"{TEXTFILES}/clawd_database_backup.prom"


def nightly(settings: BackupSettings) -> None:
    """Make a dump every night, and keep the newest; make one at once where there is none, as a test."""
    values = {
        "name": NAME,
        "path": settings.path,
        "keep": settings.keep,
        "time": settings.time,
        "environment": ENVIRONMENT,
        "backup": BACKUP,
        "metrics": METRICS,
        "textfiles": TEXTFILES,
    }
    files.directory(settings.path, owner="postgres", group="postgres", mode="0700")
    files.directory(PROGRAMS)
    files.template("database/backup.env", ENVIRONMENT, values)
    for path in (BACKUP, METRICS, RESTORE):
        template = f"database/{path.rsplit('/', 1)[-1]}"
        files.template(template, path, {**values, "program": RESTORE}, mode="0755", check="sh -n {}")
    for path in (SERVICE, TIMER):
        template = f"database/{path.rsplit('/', 1)[-1]}"
        files.template(template, path, values, check="systemd-analyze verify --recursive-errors=no {}")
    services.converge(Service(UNIT, watch=READS))
    first(settings.path)


def first(folder: str, **arguments: Any) -> OperationMeta:
    """Make a dump in `folder` where there is none."""
    arguments.setdefault("name", "First backup of the database")
    return _first(folder, **arguments)


def reported(**arguments: Any) -> OperationMeta:
    """Write the result of the last backup to the host's metrics, also when these were installed later."""
    arguments.setdefault("name", "Last backup in metrics")
    return _reported(**arguments)


class UnreportedFact(Fact):
    """Whether there are backups whose result is not in the metrics."""

    def command(self) -> str:
        """Return a script that prints yes, or nothing."""
        return f"[ ! -x {METRICS} ] || [ -f {METRICS_FILE} ] || echo yes"

    @staticmethod
    def default() -> bool:
        """Return that there is none."""
        return False

    def process(self, output: list[str]) -> bool:
        """Return whether the script printed yes."""
        return output[:1] == ["yes"]


class DumpsFact(Fact):
    """The dumps in a folder, the newest last."""

    def command(self, folder: str) -> str:
        """Return a script that prints one per line."""
        return f'{assignments(folder=folder)}ls -1 "$folder" 2>/dev/null | grep "^{NAME}-.*\\.dump$" || true'

    @staticmethod
    def default() -> tuple[str, ...]:
        """Return no dump."""
        return ()

    def process(self, output: list[str]) -> tuple[str, ...]:
        """Return the lines."""
        return tuple(filter(None, output))


class FolderFact(LineFact):
    """The folder of the dumps, as last configured on the host; empty when it is not configured."""

    def command(self) -> str:
        """Return a script that prints it."""
        return f"sed -n 's/^FOLDER=//p' {ENVIRONMENT} 2>/dev/null || true"


@operation
def _first(folder: str) -> Iterator[StringCommand]:
    if host.get_fact(DumpsFact, folder=folder):
        return
    record(Change(folder, ("first dump",)))
    yield script(_FIRST)


@operation
def _reported() -> Iterator[StringCommand]:
    if host.get_fact(UnreportedFact):
        record(Change(METRICS_FILE, ("of the last backup",)))
        yield script(_REPORT, environment=ENVIRONMENT, metrics=METRICS)


# As after a backup: with the environment and the result of its service.
_REPORT = r"""
set -eu
set -a
. "$environment"
SERVICE_RESULT=$(systemctl show --property Result --value clawd-database-backup.service)
exec "$metrics"
"""
_FIRST = r"""
systemctl start clawd-database-backup.service && exit 0
journalctl --no-pager --quiet --lines 20 --unit clawd-database-backup.service >&2
exit 1
"""
