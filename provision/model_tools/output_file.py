"""Files that tools write: complete under their name, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inventory.errors import ClawdError
from inventory.model_files.footprint import size
from provision.local import user

MARGIN = 64 << 20
"""Bytes of disk space that stay free."""


@contextmanager
def written(target: Path, *, replace: bool, needed: int = 0) -> Iterator[Path]:
    """Yield a path next to `target`; the file there becomes `target` after the block.

    After an exception nothing is left. Files of killed processes with the same target are removed first.
    Raises `ClawdError` when `target` exists and is not to be replaced, its folder is missing or may not be
    written, or `needed` bytes do not fit on its disk.
    """
    folder = target.parent
    if target.is_dir():
        raise ClawdError(f"cannot write {target}: it is a folder", advice="name a file with --output")
    if target.exists() and not replace:
        raise ClawdError(
            f"cannot write {target}: it exists", advice="name another file with --output, or pass --force"
        )
    if not folder.is_dir():
        raise ClawdError(f"cannot write {target}: the folder {folder} does not exist", advice="create it")
    if not os.access(folder, os.W_OK):
        raise ClawdError(
            f"cannot write {target}: no permission to write to {folder}",
            advice="name a file in another folder with --output",
        )
    _remove_leftovers(target)
    check_space(folder, needed)
    partial = folder / f".{target.name}.{os.getpid()}.partial"
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        user.hand_over(partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def check_space(folder: Path, needed: int) -> None:
    """Raise `ClawdError` unless `needed` bytes fit on the disk of `folder` with a margin."""
    free = shutil.disk_usage(folder).free
    if needed and free < needed + MARGIN:
        raise ClawdError(
            f"cannot write to {folder}: {size(needed)} needed and {size(MARGIN)} to stay free, but only "
            f"{size(free)} are free",
            advice="free disk space, or write to another disk with --output",
        )


def _remove_leftovers(target: Path) -> None:
    """Remove the incomplete files of processes that no longer run."""
    for left in target.parent.glob(f".{_escaped(target.name)}.*.partial*"):
        number = left.name.removeprefix(f".{target.name}.").partition(".")[0]
        if number.isdigit() and not _runs(int(number)):
            with suppress(OSError):
                left.unlink()


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
