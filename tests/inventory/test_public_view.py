from __future__ import annotations

import json
from pathlib import Path

import pytest

from inventory.load import digest, load, public_view
from inventory.model import Inventory
from inventory.public_view import MASK
from tests.inventory.conftest import SECRETS, VALID, private

REMOTE = """\
  fallback:
    engine: openai-compatible
    endpoint: https://x/v1
    api_key: !env TELEGRAM_TOKEN
channels:
"""


def loaded(folder: Path, text: str = VALID) -> Inventory:
    (folder / "prod.yml").write_text(text)
    return load(folder / "prod.yml").inventory


def test_public_view_masks_every_secret(laptop: Path) -> None:
    view = public_view(loaded(laptop, VALID.replace("channels:\n", REMOTE)))
    text = json.dumps(view)
    assert not [secret for secret in SECRETS.values() if secret in text]
    assert text.count(MASK) == 7
    assert view["channels"]["telegram"]["token"] == MASK
    assert view["models"]["fallback"]["api_key"] == MASK


def test_public_view_has_the_keys_of_the_file(laptop: Path) -> None:
    text = VALID + "firewall:\n  open: [{port: 9000, from: [10.0.0.0/8]}]\n"
    view = public_view(loaded(laptop, text))
    assert view["firewall"]["open"] == [{"port": 9000, "protocol": "tcp", "from": ["10.0.0.0/8"]}]
    assert view["hosts"]["bot1"]["ssh_key"] == str(laptop / "id")
    assert view["channels"]["telegram"]["mode"] == "webhook"


def test_public_view_does_not_mask_a_secret_that_is_not_given(laptop: Path) -> None:
    text = VALID.replace("    secret_token: !file secret-token\n", "    mode: polling\n")
    assert public_view(loaded(laptop, text))["channels"]["telegram"]["secret_token"] is None


def test_digest_ignores_comments_and_quotes(laptop: Path) -> None:
    first = digest(loaded(laptop))
    assert first == digest(loaded(laptop, "# a comment\n" + VALID.replace("  bot1:", "  'bot1':")))
    assert len(first) == 64
    assert set(first) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("192.0.2.11", "192.0.2.12"),
        ("Asia/Shanghai", "Etc/UTC"),
        ("  bot1:", "  bot2:"),
        ("ssh_key: id", "ssh_key: encrypt-key"),
        ("[runtime, nginx]", "[nginx, runtime]"),
        ("cat app-secret", "echo other"),
        ("!file encrypt-key", "!file jwt"),
    ],
)
def test_digest_changes_with_any_setting(laptop: Path, old: str, new: str) -> None:
    assert digest(loaded(laptop)) != digest(loaded(laptop, VALID.replace(old, new)))


def test_digest_changes_with_a_secret(laptop: Path) -> None:
    before = digest(loaded(laptop))
    private(laptop / "encrypt-key", "canary-encrypt-kez")
    assert digest(loaded(laptop)) != before


def test_digest_changes_when_two_secrets_are_swapped(laptop: Path) -> None:
    swapped = VALID.replace("!file encrypt-key", "!file TMP").replace(
        "!cmd cat app-secret", "!file encrypt-key"
    )
    assert digest(loaded(laptop)) != digest(loaded(laptop, swapped.replace("!file TMP", "!file app-secret")))


def test_digest_ignores_the_folder_of_the_inventory(laptop: Path) -> None:
    other = laptop.parent / "other"
    other.mkdir()
    for file in laptop.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
        (other / file.name).chmod(0o600)
    here, there = loaded(laptop), loaded(other)
    assert digest(here, laptop) == digest(there, other)
    assert digest(here) != digest(there)
