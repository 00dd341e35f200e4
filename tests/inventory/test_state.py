"""The folder `.clawd`: what is in it stays out of git, and the project keeps its id."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

import pytest

from inventory.errors import ClawdError
from inventory.state import keep_out_of_git, make_private, project_id, remember_project


def untracked(folder: Path) -> list[str]:
    words = ["git", "status", "--porcelain", "--untracked-files=all"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
    return sorted(line.removeprefix("?? ") for line in done.stdout.splitlines())


@pytest.mark.parametrize("depth", ["", "inventory", "deep/er/inventory"])
def test_git_ignores_private_keys_in_the_state_folder_at_any_depth(tmp_path: Path, depth: str) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    state = tmp_path / depth / ".clawd" / "acme"
    make_private(state)
    (state / "ca").mkdir()
    (state / "ca" / "ca.key").write_text("secret")
    (state.parent / "recipients").write_text("age1…")
    assert untracked(tmp_path) == [str(Path(depth) / ".clawd" / "recipients")]
    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_git_ignores_state_folders_of_earlier_versions(tmp_path: Path) -> None:
    state = tmp_path / ".clawd" / "acme"
    keep_out_of_git(state)
    assert not state.parent.exists(), "nothing is made for it"
    state.mkdir(parents=True)
    keep_out_of_git(state)
    assert (state.parent / ".gitignore").is_file()
    (state.parent / ".gitignore").write_text("mine")
    keep_out_of_git(state)
    assert (state.parent / ".gitignore").read_text() == "mine"


def test_project_id_is_created_once_and_kept(tmp_path: Path) -> None:
    one, two, adopted = (tmp_path / name for name in ("one", "two", "adopted"))
    assert project_id(one) is None
    made = remember_project(one)
    assert remember_project(one) == remember_project(one, "another") == project_id(one) == made
    assert remember_project(two) != made
    assert remember_project(adopted, made) == made
    (two / "project.json").write_text("[]")
    with pytest.raises(ClawdError, match="cannot read"):
        project_id(two)
