"""Space on disks that a run is about to format, for checks of space while a plan is made."""

from __future__ import annotations

from pathlib import PurePosixPath

from pyinfra import host

from deploys.disk.devices import DiskChoice
from deploys.ops.run_state import run_state


def will_hold(folder: str, choice: DiskChoice) -> None:
    """Note that `folder` of the current host will lie on a disk that is still to be formatted."""
    if choice.state != "ours":
        run_state(host).pending_space[folder] = choice.size


def arriving(path: str) -> int | None:
    """Return the bytes of the disk to which `path` of the current host will move; `None` when it stays."""
    folders = run_state(host).pending_space
    return next(
        (size for folder, size in folders.items() if PurePosixPath(path).is_relative_to(folder)), None
    )
