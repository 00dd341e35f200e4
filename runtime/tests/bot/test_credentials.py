from __future__ import annotations

import os
from pathlib import Path

import pytest

from clawd_runtime.bot.credentials import read_credentials
from clawd_runtime.errors import SettingsError


def test_reads_required_and_existing_optional_credentials(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("secret-a\n")
    (tmp_path / "c").write_text("secret-c")
    (tmp_path / "unrelated").write_text("x")
    credentials = read_credentials(tmp_path, ["a"], ["b", "c"])
    assert (credentials["a"], credentials.get("b"), credentials["c"]) == ("secret-a", None, "secret-c")
    assert credentials.values() == ("secret-a", "secret-c")
    assert "secret-a" not in f"{credentials} {credentials!r}"


def test_all_invalid_credentials_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "folder").mkdir()
    with pytest.raises(SettingsError) as caught:
        read_credentials(tmp_path, ["empty", "binary", "missing", "folder"], [])
    text = str(caught.value)
    assert f"{tmp_path}/empty: empty" in text
    assert f"{tmp_path}/binary: not UTF-8 text" in text
    assert f"{tmp_path}/missing: No such file" in text
    assert f"{tmp_path}/folder: Is a directory" in text


def test_empty_optional_credential_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("")
    with pytest.raises(SettingsError, match="key: empty"):
        read_credentials(tmp_path, [], ["key"])


def test_missing_credentials_directory() -> None:
    with pytest.raises(SettingsError, match="telegram-token is required"):
        read_credentials(None, ["telegram-token"], [])
    assert read_credentials(None, [], ["key"]).values() == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_credential_is_reported(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("x")
    (tmp_path / "key").chmod(0)
    with pytest.raises(SettingsError, match="Permission denied"):
        read_credentials(tmp_path, ["key"], [])
