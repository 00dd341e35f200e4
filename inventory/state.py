"""The folder `.clawd` next to an inventory: local state of a project, kept out of git.

.clawd/.gitignore            keeps all but `recipients` out of git
.clawd/recipients            public keys that secrets are encrypted to
.clawd/<project>/project.json   the project's id, which its hosts store as well
.clawd/<project>/ca/            its certificate authority
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from inventory.errors import ClawdError

NAME = ".clawd"
IGNORED = "# Written by clawd-provision: keys are not for git.\n*\n!recipients\n"
PROJECT = "project.json"


def make_private(state_folder: Path) -> None:
    """Create a project's folder with mode 0700 and keep it out of git at any depth."""
    state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep_out_of_git(state_folder)


def keep_out_of_git(state_folder: Path) -> None:
    """Write the `.gitignore` of an existing state folder, unless there is one already."""
    if not state_folder.is_dir():
        return
    top = next(
        (folder for folder in (state_folder, *state_folder.parents) if folder.name == NAME), state_folder
    )
    ignored = top / ".gitignore"
    if not ignored.exists():
        ignored.write_text(IGNORED, encoding="ascii")


def project_id(state_folder: Path) -> str | None:
    """Return the project's id, or `None` when it has none yet. Raises `ClawdError` when it is unreadable."""
    path = state_folder / PROJECT
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["id"]
        if not isinstance(value, str) or not value:
            raise ValueError("its id is not a text")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ClawdError(f"cannot read {path}: {error}", advice="restore it from a backup") from error
    return value


def remember_project(state_folder: Path, identity: str | None = None) -> str:
    """Store the project's id, a new one by default, and return it; an existing id is kept."""
    make_private(state_folder)
    path = state_folder / PROJECT
    made = identity or secrets.token_hex(16)
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(json.dumps({"id": made}) + "\n")
    except FileExistsError:
        return project_id(state_folder) or made
    return made
