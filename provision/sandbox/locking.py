"""The lock of a sandbox."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inventory.errors import SandboxError
from provision.local.user import hand_over
from provision.sandbox.commands import ReportSandboxProgress
from provision.sandbox.layout import Layout

_LOCK_PATIENCE = 600.0


@contextmanager
def locked(layout: Layout, progress: ReportSandboxProgress) -> Iterator[None]:
    """Hold the lock of a sandbox, so that one run at a time changes it; wait for it if necessary."""
    _make_folder(layout.folder)
    with layout.lock.open("a") as lock:
        deadline = time.monotonic() + _LOCK_PATIENCE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise SandboxError(
                        "another run has been changing the sandbox for ten minutes",
                        advice=f"run `fuser {layout.lock}` to find the process that holds the lock",
                    ) from None
                progress("waiting for another run that changes the sandbox", None)
                time.sleep(0.5)
        yield


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(mode=0o755, parents=True)
        hand_over(folder)
