from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clawd_runtime.bot.channels.telegram.channel import TelegramSettings
from clawd_runtime.bot.settings import load_settings
from clawd_runtime.errors import SettingsError

GOOD: dict[str, Any] = {
    "listen": {"host": "127.0.0.1", "port": 8080},
    "database": "sqlite:////var/lib/clawd-bot/bot.db",
    "system_prompt": "Be kind.",
    "language": "auto",
    "max_reply_tokens": 512,
    "rate_limit_per_minute": 30,
    "models": {
        "default": {
            "endpoint": "unix:/run/clawd-engine/engine.sock",
            "model": "x",
            "context_size": 4096,
        },
        "fallback": {"endpoint": "https://models.example.com/v1", "model": "m", "context_size": 4096},
    },
    "public_url": "https://bot.example.com/",
    "channels": {
        "telegram": {
            "mode": "webhook",
            "api_base": "https://api.telegram.org",
            "upload_certificate": "/etc/clawd/tls/fullchain.pem",
        },
        "console": {},
    },
}


FALLBACK: dict[str, Any] = GOOD["models"]["fallback"]


def write(folder: Path, value: object) -> Path:
    path = folder / "bot.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_documented_settings_are_valid(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, GOOD))
    assert settings.public_url == "https://bot.example.com"
    assert settings.models.fallback
    assert settings.models.fallback.model == "m"
    telegram = settings.channels["telegram"]
    assert isinstance(telegram, TelegramSettings)
    assert telegram.upload_certificate == Path("/etc/clawd/tls/fullchain.pem")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"channels": {"irc": {}}},
            "channels: unknown channel irc; known channels: telegram, feishu, console, alerts",
        ),
        (
            {"channels": {"telegram": {"mode": "push"}}},
            "telegram.mode: Input should be 'webhook' or 'polling'",
        ),
        ({"channels": {"telegram": {"tokn": "x"}}}, "telegram.tokn: Extra inputs are not permitted"),
        ({"channels": {"console": None}}, "console"),
        ({"channels": []}, "channels: must be an object"),
        ({"listen": {"port": 70000}}, "listen.port"),
        ({"models": {}}, "models: must have either `default` or `routes`"),
        ({"models": GOOD["models"] | {"routes": "/r"}}, "models: must have either `default` or `routes`"),
        ({"models": {"routes": "/r", "fallback": FALLBACK}}, "models: `fallback` is in the table of routes"),
        ({"models": {"default": {"endpoint": "engine.sock", "model": "x"}}}, "models.default.endpoint"),
        (
            {"models": GOOD["models"] | {"fallback": FALLBACK | {"first_token_seconds": 0}}},
            "models.fallback.first_token_seconds",
        ),
        (
            {"models": GOOD["models"] | {"fallback": FALLBACK | {"token_gap_seconds": 1e9}}},
            "models.fallback.token_gap_seconds",
        ),
        ({"database": "postgresql://db"}, "database"),
        ({"max_reply_tokens": 4000}, "models.default.context_size: 4096 leaves no room"),
        ({"colour": "blue"}, "colour: Extra inputs are not permitted"),
        ({"language": "fr"}, "language"),
    ],
)
def test_mistake_names_file_and_field(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = write(tmp_path, GOOD | change)
    with pytest.raises(SettingsError) as caught:
        load_settings(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(tmp_path, {"language": "fr", "database": 1}))
    assert {"language", "database", "models"} <= {
        line.split(": ")[1] for line in str(caught.value).splitlines()
    }


def test_invalid_json_is_reported_with_position(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"bot\.json:2:1: not JSON"):
        load_settings(write(tmp_path, '{"a": 1,\n'))
    with pytest.raises(SettingsError, match="No such file"):
        load_settings(tmp_path / "absent.json")


@pytest.mark.parametrize(
    "database",
    [
        "sqlite:////var/lib/clawd-bot/bot.db",
        "postgresql+psycopg://clawd@db.example.com:5432/clawd?sslmode=verify-full&sslrootcert=/etc/clawd/ca.pem",
        "postgresql+psycopg://clawd@/clawd?host=/run/postgresql",
    ],
)
def test_database_url_is_sqlite_or_postgresql(tmp_path: Path, database: str) -> None:
    assert load_settings(write(tmp_path, GOOD | {"database": database})).database == database


@pytest.mark.parametrize(
    "database",
    [
        "postgresql+psycopg://clawd:hunter2@db/clawd",
        "postgresql+psycopg://clawd@db/clawd?password=hunter2",
        "postgresql://clawd@db/clawd",
        "postgresql+psycopg://clawd@db",
        "mysql://clawd@db/clawd",
    ],
)
def test_password_or_other_database_in_url_is_refused(tmp_path: Path, database: str) -> None:
    with pytest.raises(SettingsError, match="database") as caught:
        load_settings(write(tmp_path, GOOD | {"database": database}))
    assert "hunter2" not in str(caught.value)
