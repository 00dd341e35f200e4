"""What is known of one host during one run, and is written nowhere: operations share it through `run_state`.

pyinfra has a dictionary for each host (`connector_data`), which lasts as long as the run; only this module
knows it. State that must outlive the run is in /var/lib/clawd/state on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

_KEY = "clawd_run_state"

ReportPushProgress = Callable[[str, int, int], None]
"""Callback that receives the destination, bytes on the host, and bytes of the whole file."""
ReportWaiting = Callable[[str], None]
"""Callback that receives a description of what is being waited for."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would differ afterwards.

    `path` is a file of the host, or a name such as `nginx.service`. `diff` shows how it would differ: lines
    of a unified diff, and lines of text. It never contains the content of something `secret`. `records` are
    our own notes on the host that change with it: operations that watch them take notice; plans do not show
    them.
    """

    path: str
    diff: tuple[str, ...]
    secret: bool = False
    records: tuple[str, ...] = ()


@dataclass(slots=True)
class RunState:
    """The state of one host that operations of a run share with each other and with the session."""

    link: object | None = None
    """The host's connection, a `provision.connection.link.HostConnection`; `None` under plain pyinfra."""
    report_push_progress: ReportPushProgress | None = None
    """Reports the progress of a file that is pushed, where the run shows it."""
    report_waiting: ReportWaiting | None = None
    """Reports what apt is waiting for, where the run shows it."""
    after_reconnect: list[Callable[[], None]] = field(default_factory=list)
    """Functions that restore what the old connection held, after a reboot within the run."""
    changes: dict[str | None, list[Change]] = field(default_factory=dict)
    """By hash of an operation, the changes that its latest evaluation recorded."""
    started_with: dict[tuple[str, bool], set[str]] = field(default_factory=dict)
    """By unit and phase (whether the run executes), the changed files with which it was started already."""
    resuming_units: dict[str, list[str]] = field(default_factory=dict)
    """By component that is removed, units that continue with the files that it had replaced."""
    staying_files: dict[str, str | None] = field(default_factory=dict)
    """By path of a file that removal keeps, the hash of the operation that names it in the plan."""
    leaving_programs: set[str] = field(default_factory=set)
    """Programs of Elastic's repository that are removed; the repository goes with the last one from it."""
    pending_space: dict[str, int] = field(default_factory=dict)
    """By folder, the bytes of the disk that is about to be formatted and will hold it."""


def run_state(host: Any) -> RunState:
    """Return the state of the pyinfra `host` in this run; it is created on first use."""
    state: RunState = host.connector_data.setdefault(_KEY, RunState())
    return state


def forget_sudo_password(host: Any) -> None:
    """Make pyinfra hand sudo's password to the host again: its file there is gone after a reboot."""
    host.connector_data.pop("sudo_askpass_path", None)
