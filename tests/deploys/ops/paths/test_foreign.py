"""Root in a folder that belongs to another user, who puts links where root is about to write."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from pathlib import Path

import pytest

from deploys.ops.paths import files
from deploys.ops.paths.foreign import KEEPER
from tests.deploys.harness import Machine, Run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be led astray")

UNPRIVILEGED = pwd.getpwnam("nobody")
THEIRS = {"owner": "nobody", "group": "nogroup"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of another user, which that user reaches."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and folder != Path("/") and not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(0o711)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, UNPRIVILEGED.pw_uid, UNPRIVILEGED.pw_gid)
    return home


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Create a file of root that no other user may read or write."""
    victim = tmp_path / "victim"
    victim.write_text("of root")
    victim.chmod(0o600)
    return victim


def unharmed(victim: Path) -> bool:
    found = victim.lstat()
    return (found.st_uid, stat.S_IMODE(found.st_mode), victim.read_text()) == (0, 0o600, "of root")


def put(path: Path, *, check: str | None = None, owner: str = "nobody") -> Run:
    return Machine().run(
        lambda: files.put(str(path), "new\n", owner=owner, group="nogroup", mode="0640", check=check)
    )


def test_file_in_a_folder_of_another_user_is_written_with_that_users_rights(home: Path) -> None:
    run = put(home / "settings")
    assert run.succeeded, run.output
    written = (home / "settings").stat()
    assert (written.st_uid, written.st_gid, stat.S_IMODE(written.st_mode)) == (
        UNPRIVILEGED.pw_uid,
        UNPRIVILEGED.pw_gid,
        0o640,
    )
    assert (home / "settings").read_text() == "new\n"
    assert [item.name for item in home.iterdir()] == ["settings"]
    assert not put(home / "settings").predicted


def test_file_of_root_in_a_folder_of_another_user_is_refused(home: Path) -> None:
    run = put(home / "settings", owner="root")
    assert not run.succeeded
    assert "cannot belong to root: nobody owns the folder" in run.output
    assert not list(home.iterdir())


@pytest.mark.parametrize("link", ["file", "folder", "folder above"])
def test_link_of_another_user_does_not_redirect_a_write_of_root(home: Path, victim: Path, link: str) -> None:
    path = {
        "file": home / "f",
        "folder": home / ".ssh" / "victim",
        "folder above": home / "a" / "b" / "victim",
    }
    target = path[link]
    if link == "file":
        target.symlink_to(victim)
    elif link == "folder":
        target.parent.symlink_to(victim.parent)
    else:
        target.parent.parent.symlink_to(victim.parent)
        (victim.parent / "b").symlink_to(victim.parent)
    run = put(target)
    assert unharmed(victim)
    assert run.succeeded == (link == "file"), run.output


def test_file_under_check_cannot_be_replaced_by_a_link(home: Path, victim: Path) -> None:
    swap = f"setpriv --reuid nobody --regid nogroup --clear-groups ln -sfn {victim} {{}} || true"
    run = put(home / "settings", check=swap)
    assert unharmed(victim)
    assert run.succeeded, run.output
    assert (home / "settings").read_text() == "new\n"


@pytest.mark.parametrize("kind", ["link", "second name", "folder"])
def test_kept_private_does_not_follow_links_of_another_user(home: Path, victim: Path, kind: str) -> None:
    database = home / "bot.db"
    if kind == "link":
        database.symlink_to(victim)
    elif kind == "second name":
        database.hardlink_to(victim)
    else:
        database.symlink_to(victim.parent)
    run = Machine().run(lambda: files.kept_private({str(database): "0666"}, owner="nobody"))
    assert run.predicted
    assert not run.succeeded
    assert str(database) in run.output
    assert unharmed(victim)


def test_folder_for_another_user_is_created_with_that_users_rights(home: Path, victim: Path) -> None:
    (home / "away").symlink_to(victim.parent)
    made = Machine().run(lambda: files.directory(str(home / ".ssh"), **THEIRS, mode="0700"))
    assert made.succeeded, made.output
    assert (home / ".ssh").owner() == "nobody"
    assert stat.S_IMODE((home / ".ssh").stat().st_mode) == 0o700
    led = Machine().run(lambda: files.directory(str(home / "away" / "new"), **THEIRS, mode="0700"))
    assert not led.succeeded
    assert not (victim.parent / "new").exists()


def test_folder_created_by_root_is_given_to_its_user(home: Path) -> None:
    (home / ".ssh").mkdir()
    run = Machine().run(lambda: files.directory(str(home / ".ssh"), **THEIRS, mode="0700"))
    assert run.succeeded, run.output
    assert (home / ".ssh").owner() == "nobody"
    assert not Machine().run(lambda: files.directory(str(home / ".ssh"), **THEIRS, mode="0700")).predicted


def test_removal_does_not_follow_a_link_of_another_user(home: Path, victim: Path) -> None:
    (home / ".ssh").symlink_to(victim.parent)
    run = Machine().run(lambda: files.absent(str(home / ".ssh" / "victim")))
    assert not run.succeeded
    assert unharmed(victim)


def test_link_in_a_folder_of_another_user_is_refused(home: Path) -> None:
    run = Machine().run(lambda: files.link(str(home / "current"), "/opt"))
    assert not run.succeeded
    assert "a folder of nobody" in run.output


@pytest.mark.parametrize(
    ("owners", "keeper"), [((), ""), (("nobody",), "nobody"), (("nobody", "daemon"), None)]
)
def test_keeper_is_the_user_who_may_redirect_a_path(
    tmp_path: Path, owners: tuple[str, ...], keeper: str | None
) -> None:
    folder = tmp_path
    for number, owner in enumerate(owners):
        folder = folder / str(number)
        folder.mkdir()
        os.chown(folder, pwd.getpwnam(owner).pw_uid, -1)
    completed = subprocess.run(
        ["sh", "-c", f'{KEEPER}\nkeeper "$1"', "sh", str(folder / "not" / "there")],
        capture_output=True,
        text=True,
        check=False,
    )
    if keeper is None:
        assert completed.returncode == 1
        assert "belongs to daemon and to nobody" in completed.stderr
    else:
        assert completed.stdout == f"{keeper}\n"
