"""The input of a command, and its outcome."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from inventory.errors import ConnectError
from inventory.load import LoadedInventory
from provision.local.run_log import RunLog
from provision.plan import Plan, Result
from provision.progress import RunProgress
from provision.selection import Selection
from provision.verification import run as checks


class Exit(IntEnum):
    """Exit codes of the program."""

    DONE = 0
    ERROR = 1
    PENDING = 2
    DRIFT = 3
    ROLLED_BACK = 4
    LOCKED = 5
    INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a command: its exit code, and the values to show."""

    exit: Exit
    plan: Plan | None = None
    result: Result | None = None
    verification: checks.Verification | None = None
    unreachable: Mapping[str, ConnectError] | None = None
    message: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """The input of a command: the inventory, the selected part of it, and where to report progress."""

    loaded: LoadedInventory
    selection: Selection
    progress: RunProgress
    log: RunLog
    skip_unreachable: bool = False
    purge: bool = False
    """Whether the data of removed components is deleted."""
    adopt: bool = False
    """Whether hosts of another project or with another authority are taken over."""
