"""`channels`: what each needs of hosts and settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from inventory.errors import InventoryError
from inventory.load import load
from tests.inventory.conftest import VALID
from tests.inventory.mistakes.case import ROLES, Cases, reported

CASES: Cases = {
    "webhook without secret_token": (
        "  telegram:\n    token: !env TELEGRAM_TOKEN\n    secret_token: !file secret-token\n",
        "  ‸telegram:\n    token: !env TELEGRAM_TOKEN\n",
        "`channels.telegram` lacks `secret_token`: anyone could send messages to the webhook",
        "add `secret_token:` (16 to 256 of A-Z a-z 0-9 _ -), or write `mode: polling`",
    ),
    "secret_token of wrong letters": (
        "!file secret-token",
        "‸!file spaced",
        "the secret token contains other characters than A-Z a-z 0-9 _ and -",
        "create one with `openssl rand -hex 32`",
    ),
    "secret_token that can be guessed": (
        "!file secret-token",
        "‸!cmd echo x",
        "the secret token is too short: 1 byte, at least 16",
        "create one with `openssl rand -hex 32`",
    ),
    "encrypt_key that can be guessed": (
        "!file encrypt-key",
        "‸!cmd echo k",
        "the encrypt key is too short: 1 byte, at least 16",
        "create one with `openssl rand -hex 32`, and enter it in the developer console as well",
    ),
    "not a bot token": (
        "!env TELEGRAM_TOKEN",
        "‸!file secret-token",
        "this is not a token of a Telegram bot",
        "copy it from BotFather: digits, a colon, and about 35 more characters",
    ),
    "not a token of one's own Bot API server": (
        "    token: !env TELEGRAM_TOKEN\n",
        "    api_base: https://tg.example.com\n    token: ‸!file secret-token\n",
        "this is not a token of a Telegram bot",
        "copy it from BotFather: digits, a colon, and about 35 more characters",
    ),
    "bad app_id": (
        "app_id: cli_1",
        "app_id: ‸cli-1",
        "`channels.feishu.app_id` is `cli-1`, which is malformed",
        "write `cli_` and what follows it in the developer console",
    ),
    "webhook port": (
        "base:\n",
        "nginx:\n  https_port: ‸9443\nbase:\n",
        "Telegram does not call webhooks on port 9443",
        "use 443, 80, 88 or 8443, or write `mode: polling` for Telegram",
    ),
    "short jwt_secret": (
        "!file jwt",
        "‸!file secret-token",
        "the secret is too short: 19 bytes, at least 32",
        "create one with `openssl rand -base64 48`",
    ),
    "bad api_base": (
        "app_id: cli_1",
        "app_id: cli_1\n    api_base: ‸https://",
        "`https://` is not the address of a server",
        "write https://NAME or https://NAME:PORT/path",
    ),
}

test_mistake = reported(CASES)


@pytest.mark.parametrize(
    ("channel", "place", "advice"),
    [
        (
            "  telegram: {token: !env TELEGRAM_TOKEN, secret_token: !file secret-token}\n",
            (3, 3),
            "add `nginx` to the roles of a host, or write `mode: polling`",
        ),
        (
            (
                "  feishu:\n    app_id: cli_a\n    app_secret: !env HOME\n"
                "    encrypt_key: !env HOME\n    verification_token: !env HOME\n"
            ),
            (3, 3),
            "add `nginx` to the roles of a host",
        ),
    ],
)
def test_webhook_without_nginx_is_refused(
    laptop: Path, channel: str, place: tuple[int, int], advice: str
) -> None:
    models = "models: {default: {engine: openai-compatible, endpoint: 'https://x/v1'}}\n"
    hosts = "hosts: {a: {address: a.example.com, roles: [runtime]}}\n"
    (laptop / "prod.yml").write_text(f"{models}channels:\n{channel}{hosts}")
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    (mistake,) = raised.value.mistakes
    assert (mistake.line, mistake.column, mistake.advice) == (*place, advice)


def test_polling_by_two_bots_without_shared_database_is_refused(laptop: Path) -> None:
    text = VALID.replace("    secret_token: !file secret-token\n", "    mode: polling\n")
    (laptop / "prod.yml").write_text(text.replace("base:\n", "  bot2: {address: 192.0.2.12}\nbase:\n"))
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    (mistake,) = raised.value.mistakes
    assert (mistake.line, mistake.column) == (19, 11)
    assert mistake.problem == (
        "2 runtime hosts that share no database would poll Telegram, which answers only one of them"
    )


def test_bots_that_share_a_database_may_poll(laptop: Path) -> None:
    """They agree on one that polls, and share out what it gets."""
    text = VALID.replace("    secret_token: !file secret-token\n", "    mode: polling\n")
    text = text.replace("base:\n", "  bot2: {address: 192.0.2.12, roles: [runtime, database]}\nbase:\n")
    (laptop / "prod.yml").write_text(f"{text}database: {{password: !file secret-token}}\n")
    assert load(Path("prod.yml")).inventory.channels.telegram


def test_webhook_behind_nginx_on_another_host_needs_a_public_certificate(laptop: Path) -> None:
    """Its bot uploads the certificate, which Telegram cannot know otherwise."""
    apart = VALID.replace(ROLES, "    roles: [runtime]\n  web1: {address: 192.0.2.12, roles: [nginx]}\n")
    (laptop / "prod.yml").write_text(apart)
    load(Path("prod.yml"))
    apart += "tls: {mode: self-signed}\n"
    (laptop / "prod.yml").write_text(apart)
    with pytest.raises(InventoryError) as raised:
        load(Path("prod.yml"))
    (mistake,) = raised.value.mistakes
    assert mistake.line == apart.count("\n")
    assert mistake.advice == "write `tls.mode: own-ca` or `acme`, or give one host both roles"
