"""Files, folders and links on a real file system."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from deploys.ops.diff import NOT_SHOWN
from deploys.ops.paths import files
from tests.deploys.harness import OWN, Machine

SECRET = "hunter2-and-more"


def mode_of(path: Path) -> str:
    return f"{stat.S_IMODE(path.stat().st_mode):04o}"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "one line\n",
        "no newline at the end",
        "Zażółć 你好\n\n\n",
        b"\x00\xff\r\n\x80",
        "it's $HOME `x` \\n %s\n",
        "x" * 200_000,
    ],
    ids=["empty", "line", "no-newline", "utf-8", "binary", "shell", "large"],
)
def test_put_writes_content_exactly_and_second_put_changes_nothing(
    tmp_path: Path, content: str | bytes
) -> None:
    path = tmp_path / "it's a file.conf"
    put = lambda: files.put(str(path), content, **OWN, mode="0640")  # noqa: E731
    first, second = Machine().run(put), Machine().run(put)
    assert first.predicted
    assert first.changed
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert mode_of(path) == "0640"
    assert not second.predicted
    assert not second.changed
    assert not second.changes
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_kept_private_changes_mode_without_reading_content(tmp_path: Path) -> None:
    made, absent = tmp_path / "a database", tmp_path / "absent"
    made.write_text("rows")
    made.chmod(0o644)
    keep = lambda: files.kept_private({str(made): "0600", str(absent): "0600"}, owner=OWN["owner"])  # noqa: E731
    run = Machine().run(keep)
    assert run.predicted
    assert run.changed
    assert [(change.path, change.diff) for change in run.changes] == [(str(made), ("mode 0644 → 0600",))]
    assert mode_of(made) == "0600"
    assert made.read_text() == "rows"
    assert not absent.exists()
    again = Machine().run(keep)
    assert not again.predicted
    assert not again.changed


def test_difference_is_recorded_line_by_line(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("a\nb\nc\n")
    path.chmod(0o600)
    run = Machine().run(lambda: files.put(str(path), "a\nB\nc\n", **OWN), execute=False)
    (change,) = run.changes
    assert change.diff == ("@@ -1,3 +1,3 @@", " a", "-b", "+B", " c", "mode 0600 → 0644")
    assert path.read_text() == "a\nb\nc\n"


def test_put_changes_only_a_differing_mode(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("a\n")
    path.chmod(0o666)
    run = Machine().run(lambda: files.put(str(path), "a\n", **OWN))
    assert run.changes[0].diff == ("mode 0666 → 0644",)
    assert mode_of(path) == "0644"


def test_secret_is_only_in_its_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "token"
    path.write_text("the old " + SECRET)
    caplog.set_level(logging.DEBUG)
    logging.getLogger("pyinfra").propagate = True
    run = Machine().run(lambda: files.put(str(path), SECRET, **OWN, mode="0600", secret=True))
    assert path.read_text() == SECRET
    assert run.changes[0].secret
    assert run.changes[0].diff == (NOT_SHOWN, "mode 0644 → 0600")
    texts = [repr(run), caplog.text, *(f"{command!r} {command.get_raw_value()}" for command in run.commands)]
    assert "Running command" in caplog.text, "the log that is searched must have been written"
    encodings = (SECRET, SECRET.encode().hex(), "aHVudGVyMi1hbmQtbW9yZQ")
    assert not [secret for secret in encodings if any(secret in text for text in texts)]


def test_file_is_not_readable_by_others_while_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "token"
    seen = tmp_path / "seen"
    check = f"stat -c %a {{}} > {seen}"
    os.umask(0o022)
    Machine().run(lambda: files.put(str(path), SECRET, **OWN, mode="0644", secret=True, check=check))
    assert seen.read_text() == "600\n"


def test_file_refused_by_its_check_does_not_replace_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "f.conf"
    path.write_text("good\n")
    check = 'case {} in *.conf) ;; *) exit 9 ;; esac; grep -q good {} || { echo "line 1: not good"; exit 1; }'
    run = Machine().run(lambda: files.put(str(path), "bad\n", **OWN, check=check))
    assert not run.succeeded
    assert "line 1: not good" in run.output
    assert path.read_text() == "good\n"
    assert [item.name for item in tmp_path.iterdir()] == ["f.conf"]
    assert Machine().run(lambda: files.put(str(path), "good enough\n", **OWN, check=check)).succeeded


def test_put_replaces_a_link_and_does_not_follow_it(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "f"
    other.write_text("untouched")
    path.symlink_to(other)
    run = Machine().run(lambda: files.put(str(path), "new", **OWN))
    assert "was a link" in run.changes[0].diff
    assert not path.is_symlink()
    assert path.read_text() == "new"
    assert other.read_text() == "untouched"


def test_put_into_a_missing_folder_fails_with_the_reason(tmp_path: Path) -> None:
    run = Machine().run(lambda: files.put(str(tmp_path / "no" / "f"), "x", **OWN))
    assert run.predicted
    assert not run.succeeded
    assert "No such file or directory" in run.output


def test_directory_creates_parents_and_sets_mode(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    make = lambda: files.directory(str(path), **OWN, mode="0700")  # noqa: E731
    assert Machine().run(make).changed
    assert (mode_of(path), mode_of(path.parent)) == ("0700", "0755")
    assert not Machine().run(make).predicted
    path.chmod(0o755)
    assert Machine().run(make).changes[0].diff == ("mode 0755 → 0700",)
    assert mode_of(path) == "0700"


def test_directory_refuses_to_replace_a_link_or_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "file").write_text("")
    assert "is a link" in Machine().run(lambda: files.directory(str(tmp_path / "link"), **OWN)).output
    assert not Machine().run(lambda: files.directory(str(tmp_path / "file"), **OWN)).succeeded


def test_link_replaces_its_target(tmp_path: Path) -> None:
    path = tmp_path / "current"
    assert Machine().run(lambda: files.link(str(path), "one")).changed
    run = Machine().run(lambda: files.link(str(path), "two"))
    assert run.changes[0].diff == ("link one → two",)
    assert path.readlink() == Path("two")
    assert not Machine().run(lambda: files.link(str(path), "two")).predicted
    assert [item.name for item in tmp_path.iterdir()] == ["current"]


def test_link_does_not_replace_a_folder(tmp_path: Path) -> None:
    (tmp_path / "current").mkdir()
    run = Machine().run(lambda: files.link(str(tmp_path / "current"), "two"))
    assert not run.succeeded
    assert (tmp_path / "current").is_dir()


def test_absent_removes_links_and_folders(tmp_path: Path) -> None:
    target, link = tmp_path / "d", tmp_path / "l"
    (target / "x").mkdir(parents=True)
    link.symlink_to(target)
    assert Machine().run(lambda: files.absent(str(link))).changed
    assert target.is_dir()
    assert not link.is_symlink()
    assert Machine().run(lambda: files.absent(str(target))).changed
    assert not target.exists()
    assert not Machine().run(lambda: files.absent(str(target))).predicted


def test_absent_empties_a_folder_that_is_a_mount_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It cannot go: it is emptied, and then there is nothing to do."""
    folder, programs = tmp_path / "data", tmp_path / "bin"
    (folder / "base" / "1").mkdir(parents=True)
    (folder / ".hidden").write_text("")
    programs.mkdir()
    (programs / "mountpoint").write_text(f'#!/bin/sh\n[ "$2" = {folder} ]\n')
    # As the kernel answers to those who would remove it.
    (programs / "rm").write_text(f'#!/bin/sh\ncase "$*" in *{folder}) exit 1 ;; esac; exec /bin/rm "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    run = Machine().run(lambda: files.absent(str(folder)))
    assert run.changed, run.output
    assert run.succeeded
    assert list(folder.iterdir()) == []
    assert not Machine().run(lambda: files.absent(str(folder))).predicted


def test_template_of_the_user_overrides_ours(tmp_path: Path) -> None:
    own = tmp_path / "base" / "journald.conf"
    own.parent.mkdir()
    own.write_text("Mine={{ limit }}\n")
    supplies = {"state_folder": str(tmp_path), "template_overrides": str(tmp_path)}
    dest = tmp_path / "out"
    Machine({"supplies": supplies}).run(
        lambda: files.template("base/journald.conf", str(dest), {"limit": "1G"}, **OWN)
    )
    assert dest.read_text() == "Mine=1G\n"


def test_value_missing_from_a_template_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        files.rendered("base/journald.conf", {})
