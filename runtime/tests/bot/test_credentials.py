from __future__ import annotations

import os
from pathlib import Path

import pytest

from clawd_runtime.bot.credentials import read_credentials
from clawd_runtime.errors import SettingsError


def test_reads_what_is_needed_and_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("secret-a\n")
    (tmp_path / "c").write_text("secret-c")
    (tmp_path / "unrelated").write_text("x")
    credentials = read_credentials(tmp_path, ["a"], ["b", "c"])
    assert (credentials["a"], credentials.get("b"), credentials["c"]) == ("secret-a", None, "secret-c")
    assert credentials.values() == ("secret-a", "secret-c")
    assert "secret-a" not in f"{credentials} {credentials!r}"


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError) as caught:
        read_credentials(tmp_path, ["empty", "binary", "missing", "folder"], [])
    text = str(caught.value)
    assert f"{tmp_path}/empty: is empty" in text
    assert f"{tmp_path}/binary: is not UTF-8 text" in text
    assert f"{tmp_path}/missing: No such file" in text
    assert f"{tmp_path}/folder: Is a directory" in text


def test_an_optional_one_must_not_be_empty(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    with pytest.raises(SettingsError, match="key: is empty"):
        read_credentials(tmp_path, [], ["key"])


def test_no_folder_at_all() -> None:
    with pytest.raises(SettingsError, match="telegram-token is needed"):
        read_credentials(None, ["telegram-token"], [])
    assert read_credentials(None, [], ["key"]).values() == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_one(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0)
    with pytest.raises(SettingsError, match="Permission denied"):
        read_credentials(tmp_path, ["key"], [])
