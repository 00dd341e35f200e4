from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from provision.sandbox.layout import Layout
from provision.sandbox.secrets import SECRETS, ensure_key, ensure_secrets

FORMS = {
    "telegram-token": r"[0-9]{9}:AA[A-Za-z0-9_-]{33}",
    "telegram-secret-token": r"[A-Za-z0-9_-]{1,256}",
    "feishu-app-secret": r"[A-Za-z0-9]{32}",
    "feishu-encrypt-key": r"[A-Za-z0-9]{32}",
    "feishu-verification-token": r"[A-Za-z0-9]{32}",
    "console-jwt-secret": r"[A-Za-z0-9]{64}",
}


def test_every_secret_of_the_sandbox_inventory_is_generated() -> None:
    inventory = (Path(__file__).resolve().parents[3] / "inventory" / "sandbox.yml").read_text()
    assert set(re.findall(r"secrets/([a-z-]+)", inventory)) == set(SECRETS) == set(FORMS)


@pytest.mark.parametrize("name", FORMS)
def test_generated_secrets_have_the_format_of_real_ones(name: str) -> None:
    values = {SECRETS[name]() for _ in range(50)}
    assert len(values) == 50
    assert all(re.fullmatch(FORMS[name], value) for value in values)


def test_secrets_are_generated_once_and_readable_only_by_the_owner(layout: Layout) -> None:
    ensure_secrets(layout)
    first = {path.name: path.read_text() for path in layout.secrets.iterdir()}
    (layout.secrets / "console-jwt-secret").unlink()
    ensure_secrets(layout)
    second = {path.name: path.read_text() for path in layout.secrets.iterdir()}
    assert set(first) == set(second) == set(SECRETS)
    assert {name for name in first if first[name] != second[name]} == {"console-jwt-secret"}
    assert layout.secrets.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in layout.secrets.iterdir()} == {0o600}


def test_login_key_is_kept(layout: Layout) -> None:
    layout.folder.mkdir()
    public = ensure_key(layout)
    assert public.startswith("ssh-ed25519 ")
    assert ensure_key(layout) == public
    assert layout.key.stat().st_mode & 0o777 == 0o600


def test_git_ignores_keys_of_a_sandbox(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for folder in (tmp_path / ".sandbox", tmp_path / "of-the-user"):
        ensure_secrets(Layout(folder))
    words = ["git", "status", "--porcelain", "--untracked-files=all"]
    seen = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert ".sandbox" not in seen
    assert not (tmp_path / "of-the-user" / ".gitignore").exists(), "that would hide the user's own files"
