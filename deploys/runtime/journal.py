"""The bot's own journal: strangers cause its lines, which must not displace those of other services.

Read it with `journalctl --namespace=clawd-bot`; `--namespace='*'` shows all journals of a host.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyinfra import host
from pyinfra.api import StringCommand

from deploys.ops.diff import expected, operation, record
from deploys.ops.facts import Fact
from deploys.ops.paths import files
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script
from deploys.runtime.settings import JOURNAL_MAX

NAMESPACE = "clawd-bot"
CONFIG = f"/etc/systemd/journald@{NAMESPACE}.conf"
UNIT = f"systemd-journald@{NAMESPACE}.service"


def limited() -> None:
    """Keep the bot's journal over boots, with a limit of its size."""
    files.template("runtime/journald.conf", CONFIG, {"limit": JOURNAL_MAX})
    _current(name=f"Journal of {NAMESPACE}")


def absent() -> None:
    """Stop the bot's journal and delete its lines, as those of nginx are."""
    _stopped(name=f"No journal of {NAMESPACE}")
    files.absent(CONFIG)
    files.absent(folder(host.get_fact(MachineIdFact)))


def folder(machine: str) -> str:
    """Return the folder of the journal on the host with this machine ID."""
    return f"/var/log/journal/{machine}.{NAMESPACE}"


class MachineIdFact(Fact):
    """The machine ID of a host, after which systemd names folders of journals."""

    def command(self) -> str:
        """Return a command that prints it."""
        return "cat /etc/machine-id 2>/dev/null || true"

    @staticmethod
    def default() -> str:
        """Return an empty ID."""
        return ""

    def process(self, output: list[str]) -> str:
        """Return the ID."""
        return output[0].strip() if output else ""


class StateFact(Fact):
    """Whether the journal's service is `stopped`, `running`, or `stale`: runs with an older configuration."""

    def command(self) -> str:
        """Print it."""
        return assignments(name=UNIT.removesuffix(".service"), config=CONFIG) + _STATE

    @staticmethod
    def default() -> str:
        """Return `stopped`."""
        return "stopped"

    def process(self, output: list[str]) -> str:
        """Return the word."""
        return output[0] if output else "stopped"


_STATE = program("deploys/runtime/scripts/journal_state.sh")


@operation
def _current() -> Iterator[StringCommand]:
    state = host.get_fact(StateFact)
    if state == "stale" or (state == "running" and expected(host, CONFIG)):
        record(Change(UNIT, ("restart (what it reads changes)",)))
        yield script('systemctl restart "$unit"', unit=UNIT)


@operation
def _stopped() -> Iterator[StringCommand]:
    if host.get_fact(StateFact) != "stopped":
        record(Change(UNIT, ("stop",)))
        yield script(_STOP, namespace=NAMESPACE)


_STOP = program("deploys/runtime/scripts/stop_journal.sh")
