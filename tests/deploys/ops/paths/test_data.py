"""Data of removed components: kept and noted, or deleted by a purge, with path and size in the plan."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from deploys.ops.paths import data
from tests.deploys.harness import Machine, Run


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is noted what was kept."""
    folder = tmp_path / "left"
    monkeypatch.setattr(data, "LEFT", str(folder))
    return folder


@pytest.fixture
def conversations(tmp_path: Path) -> Path:
    folder = tmp_path / "made" / "clawd-bot"
    folder.mkdir(parents=True)
    (folder / "bot.db").write_bytes(b"x" * 3_000_000)
    (tmp_path / "made" / "of another").touch()
    return folder


def removed(*paths: Path, purge: bool = False) -> Run:
    machine = Machine({"purge": purge})
    what = {str(path): "conversations" for path in paths}
    return machine.run(lambda: data.kept_or_purged("database", what))


def purged_later() -> Run:
    """A purge when nothing but the data is left of the component."""
    return Machine({"purge": True}).run(lambda: data.purge_left("database"))


def test_purge_keeps_data_in_use_by_another_program(
    left: Path, conversations: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when an administrator has installed PostgreSQL, which took the data up."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "systemctl").write_text("#!/bin/sh\necho $CLAWD_TEST_LOADED\n")
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    what = {str(conversations): "the database clawd"}
    unit = "postgresql.service"
    Machine().run(lambda: data.kept_or_purged("database", what, unit=unit))
    monkeypatch.setenv("CLAWD_TEST_LOADED", "loaded")
    assert not purged_later().predicted
    assert (conversations / "bot.db").exists()
    monkeypatch.setenv("CLAWD_TEST_LOADED", "not-found")
    assert purged_later().changed
    assert not conversations.exists()


def test_removal_shows_kept_data_and_notes_it_once(left: Path, conversations: Path) -> None:
    run = removed(conversations)
    assert run.predicted
    assert run.changed
    assert run.names == ("Keep data: conversations",)
    (change,) = run.changes
    assert change.path == str(conversations)
    assert change.diff == ("stays: conversations, 2.9 MiB; `--purge` deletes it",)
    assert (conversations / "bot.db").exists()
    assert (left / "database").stat().st_mode & 0o777 == 0o600
    assert not removed(conversations).predicted


def test_purge_shows_path_and_size_before_it_deletes(left: Path, conversations: Path) -> None:
    run = removed(conversations, purge=True)
    assert run.names == ("Delete data: conversations",)
    (change,) = run.changes
    assert (change.path, change.diff) == (
        str(conversations),
        ("deleted for good: conversations, 2.9 MiB",),
    )
    assert run.changed
    assert not conversations.exists()
    assert (conversations.parent / "of another").exists()
    assert not removed(conversations, purge=True).predicted


def test_purge_finds_what_an_earlier_removal_kept(left: Path, conversations: Path) -> None:
    removed(conversations)
    run = purged_later()
    assert run.predicted
    assert [change.path for change in run.changes] == [str(conversations)]
    assert run.changed
    assert not conversations.exists()
    assert not (left / "database").exists()


@pytest.mark.parametrize("purge", [False, True])
def test_removal_without_data_shows_nothing(left: Path, tmp_path: Path, purge: bool) -> None:
    assert not removed(tmp_path / "never-made", purge=purge).predicted
    assert not left.exists()


def test_purge_deletes_paths_with_special_characters_exactly(left: Path, tmp_path: Path) -> None:
    odd = tmp_path / "a b; $(touch oops) 'x'"
    odd.mkdir()
    other: Any = tmp_path / "a"
    other.mkdir()
    removed(odd)
    assert purged_later().changed
    assert not odd.exists()
    assert other.exists()
