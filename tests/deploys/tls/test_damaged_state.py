"""Every file of `.clawd`, damaged in every way: what reads it says which file it is."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploys.elastic.packages import key_of
from deploys.elastic.settings import PackageSettings
from deploys.tls.authority import (
    authority,
    authority_certificate,
    known_authorities,
    remember,
    unencrypted_key,
)
from inventory.errors import ClawdError
from inventory.secrets import own_recipients
from inventory.state import project_id, remember_project

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
READERS: dict[str, tuple[Callable[[Path], object], ...]] = {
    "acme/ca/ca.pem": (
        authority_certificate,
        known_authorities,
        lambda state: authority(state, "acme", timedelta(days=90), NOW),
    ),
    "acme/ca/ca.key": (lambda state: authority(state, "acme", timedelta(days=90), NOW),),
    "acme/ca/ca.key.age": (lambda state: authority(state, "acme", timedelta(days=90), NOW),),
    "acme/project.json": (project_id, remember_project),
    "recipients": (lambda state: own_recipients(state.parent.parent), unencrypted_key),
}
DAMAGES: dict[str, bytes] = {
    "empty": b"",
    "not UTF-8": b"\xff\xfe\x00",
    "garbage": b"garbage\n" * 99,
    "deep": b"[" * 99_999,
    "list": b"[1]",
    "no text": b'{"id": {"a": 1}}',
    "encrypted key": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMA==\n-----END ENCRYPTED PRIVATE KEY-----",
    "certificate of nothing": b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", READERS)
def test_damaged_state_file_is_reported_with_its_path(
    name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    state = tmp_path / ".clawd" / "acme"
    authority(state, "acme", timedelta(days=90), NOW)
    remember_project(state)
    if name.endswith(".age"):
        (state / "ca" / "ca.key").unlink()
    file = tmp_path / ".clawd" / name
    file.write_bytes(DAMAGES[damage])
    for read in READERS[name]:
        if (name, damage) == ("recipients", "empty"):
            assert not own_recipients(tmp_path)
            continue
        with pytest.raises(ClawdError) as raised:
            read(state)
        assert str(file.parent) in str(raised.value)
        assert raised.value.advice


def test_damaged_repository_key_is_reported_with_its_path(tmp_path: Path) -> None:
    settings = PackageSettings()
    kept = tmp_path / "keys" / f"{settings.fingerprint}.asc"
    kept.parent.mkdir()
    for content in DAMAGES.values():
        kept.write_bytes(content)
        with pytest.raises(ClawdError) as raised:
            key_of(settings, tmp_path)
        assert str(kept) in str(raised.value)


def test_damaged_certificate_of_a_host_is_replaced(tmp_path: Path) -> None:
    for content in DAMAGES.values():
        remember(tmp_path, "bot1", content)
        assert (tmp_path / "tls" / "bot1.pem").read_bytes() == content


@pytest.mark.parametrize("name", ["ca", "ca/ca.pem", "project.json"])
def test_state_file_replaced_by_a_folder_is_reported_with_its_path(name: str, tmp_path: Path) -> None:
    state = tmp_path / ".clawd" / "acme"
    authority(state, "acme", timedelta(days=90), NOW)
    remember_project(state)
    path = state / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("")
    else:
        path.unlink()
        path.mkdir()
    readers: tuple[Callable[[Path], object], ...] = (
        project_id,
        lambda state: authority(state, "acme", timedelta(days=90), NOW),
    )
    with pytest.raises(ClawdError) as raised:
        readers[name != "project.json"](state)
    assert str(path.parent) in str(raised.value)
