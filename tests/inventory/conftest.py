"""A laptop to load inventories on: a folder with keys, models and secrets, and an environment of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import ggufs

ED25519 = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

VALID = """\
project: team
known_hosts: known_hosts
hosts:
  bot1:
    address: 192.0.2.11
    ssh_key: id
    roles: [runtime, nginx]
base:
  time_zone: Asia/Shanghai
models:
  default:
    engine: llama-cpp
    path: model.gguf
    memory_max: 1G
channels:
  telegram:
    token: !env TELEGRAM_TOKEN
    secret_token: !file secret-token
  feishu:
    app_id: cli_1
    app_secret: !cmd cat app-secret
    encrypt_key: !file encrypt-key
    verification_token: !env VERIFICATION_TOKEN
  console:
    jwt_secret: !file jwt
access: {users: {telegram:1: owner}}
"""

SECRETS = {
    "telegram": "123456:canary-telegram-AAAAAAAAAAAAAAAAAAA",
    "secret-token": "canary-secret-token",
    "app-secret": "canary-app-secret",
    "encrypt-key": "canary-encrypt-key",
    "verification": "canary-verification",
    "jwt": "canary-jwt-0123456789-0123456789-0123456789",
}


@pytest.fixture
def laptop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which VALID loads; it is the current folder, and home is empty."""
    for name in list(os.environ):
        if name.startswith("CLAWD_"):
            monkeypatch.delenv(name)
    folder, home = tmp_path / "project", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("TELEGRAM_TOKEN", SECRETS["telegram"])
    monkeypatch.setenv("VERIFICATION_TOKEN", SECRETS["verification"])
    monkeypatch.chdir(folder)
    for name in ("secret-token", "app-secret", "encrypt-key", "jwt"):
        private(folder / name, SECRETS[name] + "\n")
    private(folder / "id", "a key")
    (folder / "known_hosts").write_text("")
    ggufs.write(folder / "model.gguf", ggufs.TINY)
    return folder


def private(path: Path, text: str) -> Path:
    """Write a file that its owner alone may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path
