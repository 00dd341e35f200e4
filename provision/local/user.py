"""The user who called sudo: files that the program creates on this machine belong to that user.

With sudo the program runs as root, with another home folder. Without this module `sudo clawd-provision up`
would build everything again in root's cache, and leave files that the user cannot change.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def home() -> Path:
    """Return the home folder of the user who called the program, with or without sudo."""
    if (caller := _caller()) is not None:
        try:
            return Path(pwd.getpwuid(caller[0]).pw_dir)
        except KeyError:
            pass
    return Path.home()


def hand_over(path: Path) -> None:
    """Change the owner of a path to the user who called sudo."""
    if (caller := _caller()) is not None:
        os.chown(path, *caller, follow_symlinks=False)


def hand_over_all(folder: Path) -> None:
    """Change the owner of a folder and of everything in it to the user who called sudo."""
    if _caller() is not None:
        for path in (folder, *folder.rglob("*")):
            hand_over(path)


def make_folder(folder: Path) -> None:
    """Create a folder and its missing parents, owned by the user who called sudo."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        hand_over(path)


def _caller() -> tuple[int, int] | None:
    """Return user and group id of the user who called sudo; `None` without sudo."""
    user, group = os.environ.get("SUDO_UID"), os.environ.get("SUDO_GID")
    return (int(user), int(group)) if user and group and os.geteuid() == 0 else None
