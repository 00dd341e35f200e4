"""The person behind sudo: what the program makes on this machine for them stays theirs.

With sudo the program runs as root, whose home is another. Without this, `sudo clawd-provision up` would build
everything again in root's cache, and leave files that its caller cannot change.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def home() -> Path:
    """The home folder of who called the program, through sudo or not."""
    if (caller := _caller()) is not None:
        try:
            return Path(pwd.getpwuid(caller[0]).pw_dir)
        except KeyError:
            pass
    return Path.home()


def hand_over(path: Path) -> None:
    """Give what sudo made to the person who called sudo."""
    if (caller := _caller()) is not None:
        os.chown(path, *caller, follow_symlinks=False)


def hand_over_all(folder: Path) -> None:
    """Give a folder with all that is in it to the person who called sudo."""
    if _caller() is not None:
        for path in (folder, *folder.rglob("*")):
            hand_over(path)


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, for the person who called sudo."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        hand_over(path)


def _caller() -> tuple[int, int] | None:
    """User and group of who called sudo; `None` where the program runs as who called it."""
    user, group = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    return (int(user), int(group)) if user and group and os.geteuid() == 0 else None
