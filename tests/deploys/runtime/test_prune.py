import os
import subprocess
from pathlib import Path

from deploys.runtime import prune
from deploys.runtime.prune import Entries, EntriesFact, outdated
from tests.deploys.harness import Machine

A, B, C, D, E = (letter * 16 for letter in "abcde")


def test_only_renames_files_aside_while_a_rollback_is_possible(tmp_path: Path) -> None:
    for name in ("keep", "model.gguf", "older.gguf.old"):
        (tmp_path / name).touch()
    run = Machine().run(lambda: prune.only(str(tmp_path), {"keep"}, aside=True))
    assert run.changed
    assert {path.name for path in tmp_path.iterdir()} == {"keep", "model.gguf.old"}
    assert Machine().run(lambda: prune.only(str(tmp_path), {"keep"}, aside=True)).predicted


def test_newest_three_releases_are_kept() -> None:
    assert outdated(Entries((E, D, C, B, A), linked=E), new=E) == (B, A)


def test_new_release_counts_before_it_is_installed() -> None:
    assert outdated(Entries((D, C, B), linked=D), new=E) == (B,)


def test_running_release_is_kept_however_old() -> None:
    assert outdated(Entries((D, C, B, A), linked=A), new=E) == (C, B)


def test_first_release_leaves_nothing_outdated() -> None:
    assert outdated(Entries(), new=A) == ()
    assert outdated(Entries((A,), linked=""), new=A) == ()


def test_leftovers_of_interrupted_runs_are_outdated() -> None:
    leftover = (f"{B}.{B}.part", f"{C}.new")
    assert outdated(Entries((*leftover, A), linked=A), new=A) == leftover


def test_entries_fact_returns_names_by_age_and_the_linked_one(tmp_path: Path) -> None:
    folder = tmp_path / "releases"
    folder.mkdir()
    for age, name in enumerate((C, A, B)):
        (folder / name).mkdir()
        os.utime(folder / name, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "current").symlink_to(folder / A)
    assert asked(str(folder), str(tmp_path / "current")) == Entries((C, A, B), linked=A)
    assert asked(str(folder), str(tmp_path / "missing")) == Entries((C, A, B))
    assert asked(str(tmp_path / "nowhere"), "") == Entries()


def asked(folder: str, link: str) -> Entries:
    fact = EntriesFact()
    command = fact.command(folder=folder, link=link)
    run = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    return fact.process(run.stdout.splitlines())


def test_only_deletes_everything_not_named(tmp_path: Path) -> None:
    for name in ("keep", "go", ".hidden", "with space"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").touch()
    run = Machine().run(lambda: prune.only(str(tmp_path), {"keep"}))
    assert run.changed
    assert [entry.name for entry in tmp_path.iterdir()] == ["keep"]
    again = Machine().run(lambda: prune.only(str(tmp_path), {"keep"}))
    assert not again.predicted
    assert not again.changed


def test_only_ignores_a_missing_folder(tmp_path: Path) -> None:
    run = Machine().run(lambda: prune.only(str(tmp_path / "missing"), {"keep"}))
    assert run.succeeded
    assert not run.changed


def test_outdated_releases_are_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "releases"
    folder.mkdir()
    for age, name in enumerate((E, D, C, B, A)):
        (folder / name).mkdir()
        os.utime(folder / name, (1_000_000 - age, 1_000_000 - age))
    current = tmp_path / "current"
    current.symlink_to(folder / A)
    run = Machine().run(lambda: prune.releases(str(folder), str(current), E))
    assert run.succeeded
    assert {entry.name for entry in folder.iterdir()} == {E, D, A}
