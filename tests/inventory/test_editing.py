"""Changes of an inventory by a command: only the lines that they concern differ."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import pytest

from inventory.editing import changed, edited
from inventory.errors import ClawdError

TEXT = """# Our deployment.
project: assistant   # its name

hosts:
    bot1: {address: 203.0.113.11, roles: [runtime, nginx]}  # both
base:
    operators:
        - name: alice
          keys:
            - "ssh-ed25519 AAAA… alice"
models:
    # The large one.
    default:
        engine: openai-compatible
        endpoint: 'https://llm.example.com/v1'
        api_key: !env LLM_KEY
    next: {engine: openai-compatible, endpoint: "https://b.example/v1"}  # from 3 May
channels:
    telegram:
        token: !age |
            -----BEGIN AGE ENCRYPTED FILE-----
            abc
            -----END AGE ENCRYPTED FILE-----

# The end.
routes:
    version: 3
    shares: {next: 5}
"""
EXAMPLE = Path(__file__).resolve().parents[2] / "inventory" / "example-prod.yml"


def nothing(data: MutableMapping[str, Any]) -> None:
    assert data


def promote(data: MutableMapping[str, Any]) -> None:
    data["routes"]["version"] = 4
    data["routes"]["shares"]["next"] = 25


@pytest.mark.parametrize("text", [TEXT, TEXT.replace("    ", "  ")], ids=["four columns", "two columns"])
def test_nothing_differs_without_a_change(text: str) -> None:
    assert changed(text, nothing) == text


def test_explained_example_keeps_its_comments_and_values() -> None:
    text = EXAMPLE.read_text()
    again = changed(text, nothing)
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert comments
    assert [line for line in again.splitlines() if line.lstrip().startswith("#")] == comments


def test_only_changed_values_differ() -> None:
    after = changed(TEXT, promote)
    assert after == TEXT.replace("version: 3", "version: 4").replace("{next: 5}", "{next: 25}")


def test_removed_model_leaves_everything_else() -> None:
    def remove(data: MutableMapping[str, Any]) -> None:
        del data["models"]["next"]

    [line] = [line for line in TEXT.splitlines(keepends=True) if line.startswith("    next:")]
    assert changed(TEXT, remove) == TEXT.replace(line, "")


def test_missing_section_is_appended() -> None:
    def add(data: MutableMapping[str, Any]) -> None:
        data["routes"] = {"version": 2, "shares": {"next": 5}}

    before = "models:\n  next: {}\n"
    assert changed(before, add) == f"{before}routes:\n  version: 2\n  shares:\n    next: 5\n"


def test_former_file_is_put_back_after_an_error(tmp_path: Path) -> None:
    file = tmp_path / "prod.yml"
    file.write_text(TEXT)
    file.chmod(0o640)
    seen = []

    def fails() -> None:
        with edited(file, promote):
            seen.append(file.read_text())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert seen == [changed(TEXT, promote)]
    assert file.read_text() == TEXT
    with edited(file, promote):
        pass
    assert file.read_text() == changed(TEXT, promote)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_private_file_is_never_readable_by_others(tmp_path: Path) -> None:
    file = tmp_path / "prod.yml"
    file.write_text(TEXT)
    file.chmod(0o600)
    modes: list[int] = []

    def record(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.chmod" and recording:
            modes.extend(stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir())

    recording = True
    sys.addaudithook(record)
    before = os.umask(0o022)
    try:
        with edited(file, promote):
            modes.append(stat.S_IMODE(file.stat().st_mode))
    finally:
        os.umask(before)
        recording = False
    assert len(modes) > 1
    assert set(modes) == {0o600}


def test_another_group_does_not_get_the_rights_of_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "prod.yml"
    file.write_text(TEXT)
    file.chmod(0o640)

    def refused(*_: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchown", refused)
    with edited(file, promote):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_file_behind_a_link_is_replaced_in_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folders may be of two file systems, between which no file can be moved."""
    link, file = tmp_path / "prod.yml", tmp_path / "elsewhere" / "prod.yml"
    file.parent.mkdir()
    file.write_text(TEXT)
    link.symlink_to(file)
    replace = os.replace

    def within_one_folder(source: Any, target: Any) -> None:
        if Path(source).parent != Path(target).parent:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        replace(source, target)

    monkeypatch.setattr(os, "replace", within_one_folder)
    with edited(link, promote):
        pass
    assert link.is_symlink()
    assert file.read_text() == changed(TEXT, promote)
    assert [path.name for path in file.parent.iterdir()] == ["prod.yml"]


def test_change_of_another_program_is_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "prod.yml"
    file.write_text(TEXT)

    def fails() -> None:
        with edited(file, promote):
            file.write_text("mine")
            raise ZeroDivisionError

    with pytest.raises(ClawdError, match="changed by another program"):
        fails()
    assert file.read_text() == "mine"
