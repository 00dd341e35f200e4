"""The folder `.clawd` next to an inventory: what laptops know of a project, kept out of git.

.clawd/.gitignore            keeps all but `recipients` out of git
.clawd/recipients            public keys that secrets are encrypted to
.clawd/<project>/project.json   the project's id, which its hosts carry, too
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
    """Make a project's folder, readable by its owner only, and keep it out of git at any depth."""
    state_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    keep_out_of_git(state_folder)


def keep_out_of_git(state_folder: Path) -> None:
    """Write the `.gitignore` of a state folder that is there; one that somebody wrote stays."""
    if not state_folder.is_dir():
        return
    top = next(
        (folder for folder in (state_folder, *state_folder.parents) if folder.name == NAME), state_folder
    )
    ignored = top / ".gitignore"
    if not ignored.exists():
        ignored.write_text(IGNORED, encoding="ascii")


def project_id(state_folder: Path) -> str | None:
    """Return the project's id; `None` when it has none yet. Raises `ClawdError` when it cannot be read."""
    path = state_folder / PROJECT
    try:
        value = json.loads(path.read_text(encoding="utf-8"))["id"]
        if not isinstance(value, str) or not value:
            raise ValueError("its id is not a text")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ClawdError(f"{path} cannot be read: {error}", advice="restore it from a copy") from error
    return value


def remember_project(state_folder: Path, identity: str | None = None) -> str:
    """Note the project's id, a new one by default, and return it; one that is there stays."""
    make_private(state_folder)
    path = state_folder / PROJECT
    made = identity or secrets.token_hex(16)
    try:
        with path.open("x", encoding="ascii") as file:
            file.write(json.dumps({"id": made}) + "\n")
    except FileExistsError:
        return project_id(state_folder) or made
    return made
