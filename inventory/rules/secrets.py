"""Rules for the form and the length of secrets. Pure.

No finding contains a part of a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import BaseModel, SecretStr

from inventory.addresses import check_webhook
from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rule_findings import InventoryFinding

OFFICIAL_TELEGRAM = "https://api.telegram.org"
VISIBLE = re.compile(r"[!-~]+")
ONE_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]+")
HEX, BASE64 = "create one with `openssl rand -hex 32`", "create one with `openssl rand -base64 48`"


@dataclass(frozen=True, slots=True)
class SecretKind:
    """The form of secrets of one kind.

    `least` and `most` are lengths in bytes. A secret that the user chooses must be as long as a key; one that
    a platform issues may have any length.
    """

    what: str
    advice: str
    least: int = 1
    most: int = 4096
    letters: re.Pattern[str] = VISIBLE
    of: str = "visible ASCII characters without spaces"


def _given(what: str, advice: str) -> SecretKind:
    return SecretKind(what, advice)


PASSWORD = SecretKind(
    "the password", "write it as you would type it", letters=ONE_LINE, of="text on one line"
)
FEISHU = "copy it from the developer console"
KINDS: dict[KeyPath, SecretKind] = {
    ("channels", "telegram", "secret_token"): SecretKind(
        "the secret token", HEX, 16, 256, re.compile(r"[A-Za-z0-9_-]+"), "A-Z a-z 0-9 _ and -"
    ),
    ("channels", "feishu", "app_secret"): _given("the app secret", FEISHU),
    ("channels", "feishu", "encrypt_key"): SecretKind(
        "the encrypt key", f"{HEX}, and enter it in the developer console as well", 16
    ),
    ("channels", "feishu", "verification_token"): _given("the verification token", FEISHU),
    ("channels", "console", "jwt_secret"): SecretKind(
        "the secret", BASE64, 32, letters=ONE_LINE, of="text on one line"
    ),
    ("database", "password"): SecretKind(
        "the password", "create one with `openssl rand -base64 24`", 16, 256
    ),
    ("docker", "registry_login", "password"): SecretKind(
        "the password", "copy it from the registry", letters=ONE_LINE, of="text on one line"
    ),
    ("hosts", "*", "sudo_password"): PASSWORD,
    ("hosts", "*", "ssh_key_password"): PASSWORD,
    ("hosts", "*", "bastion", "ssh_key_password"): PASSWORD,
    ("logs", "password"): SecretKind("the secret", BASE64, 32, letters=ONE_LINE, of="text on one line"),
    ("logs", "reader_password"): SecretKind(
        "the password", BASE64, 12, 72, letters=ONE_LINE, of="text on one line"
    ),
    ("models", "*", "api_key"): _given("the key", "write the key alone, as the provider shows it"),
    ("policy", "classifier", "api_key"): _given(
        "the key", "write the key alone, as the guard model's server expects it"
    ),
    ("monitoring", "alerts", "token"): SecretKind("the token", HEX, 16),
    ("monitoring", "alerts", "feishu_webhook_secret"): _given(
        "the secret", "copy it from the group's settings"
    ),
    ("monitoring", "grafana", "admin_password"): SecretKind(
        "the password",
        "create one with `openssl rand -base64 18`",
        12,
        letters=ONE_LINE,
        of="text on one line",
    ),
    ("tls", "acme", "dns", "environment", "*"): SecretKind(
        "the value", "copy it from the provider", letters=ONE_LINE, of="text on one line"
    ),
}
"""Kinds by key path, `*` for any key. Other secrets have their own rules."""
APART: tuple[KeyPath, ...] = (
    ("channels", "telegram", "token"),
    ("monitoring", "alerts", "feishu_webhook"),
    ("tls", "provided", "certificate"),
    ("tls", "provided", "key"),
)
"""Secrets with their own rules: `telegram_token`, `webhook`, `inventory.local_files.certificates`."""


def secrets(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding for each secret that does not have the form of its kind."""
    for path, secret in secrets_of(inventory):
        kind = kind_of_secret(path)
        if kind is not None and (problem := _problem(kind, secret.get_secret_value())):
            yield InventoryFinding((path,), problem, kind.advice)


def secrets_of(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, SecretStr]]:
    """Yield every secret of an inventory with its key path."""
    if isinstance(value, SecretStr):
        yield path, value
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from secrets_of(getattr(value, name), (*path, name))
        yield from secrets_of(value.model_extra or {}, path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from secrets_of(inner, (*path, key))


def kind_of_secret(path: KeyPath) -> SecretKind | None:
    """Return the kind of the secret at `path`; `None` when it has its own rule."""
    for known, kind in KINDS.items():
        alike = (one in ("*", other) for one, other in zip(known, path, strict=False))
        if len(known) == len(path) and all(alike):
            return kind
    return None


def _problem(kind: SecretKind, secret: str) -> str:
    length = len(secret.encode())
    if length < kind.least:
        return f"{kind.what} is too short: {length} byte{'s' * (length != 1)}, at least {kind.least}"
    if length > kind.most:
        return f"{kind.what} is too long: {length} bytes, at most {kind.most}"
    if not kind.letters.fullmatch(secret):
        return f"{kind.what} contains other characters than {kind.of}"
    return ""


def telegram_token(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding unless the token has BotFather's form; other Bot API servers may use shorter ones."""
    telegram = inventory.channels.telegram
    if telegram is None:
        return
    least = 20 if telegram.api_base.rstrip("/") == OFFICIAL_TELEGRAM else 1
    if not re.fullmatch(rf"[0-9]{{1,20}}:[A-Za-z0-9_-]{{{least},256}}", telegram.token.get_secret_value()):
        yield InventoryFinding(
            (("channels", "telegram", "token"),),
            "this is not a token of a Telegram bot",
            "copy it from BotFather: digits, a colon, and about 35 more characters",
            (("channels", "telegram", "api_base"),),
        )


def webhook(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding unless the address of the custom bot is valid."""
    alerts = inventory.monitoring.alerts
    if alerts is None or alerts.feishu_webhook is None:
        return
    if (verdict := check_webhook(alerts.feishu_webhook.get_secret_value())) is not None:
        yield InventoryFinding((("monitoring", "alerts", "feishu_webhook"),), *verdict)


RULES = (secrets, telegram_token, webhook)
"""Rules for resolved secrets only."""
