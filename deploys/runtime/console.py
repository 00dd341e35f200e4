"""The key of the console, through which people and verifications send questions to a bot.

Every bot has the channel, so that `verify` can use it. Where no console is declared, nginx passes requests to
it only from its own host, and the key is derived from a secret that the inventory has anyway: all laptops
derive the same one, and it changes with that secret.
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid

import jwt
from pydantic import SecretStr

from inventory.model import Inventory
from inventory.sections.channels import Channels

LOOPBACK = ("127.0.0.0/8", "::1/128")
TOKEN_LIFETIME_S = 300
CLOCK_DIFFERENCE_S = 120
"""Largest accepted difference of the laptop's clock: a token that begins in the future is refused."""


def console_secret(inventory: Inventory) -> SecretStr | None:
    """Return the key that signs the console's tokens; `None` when there is no channel at all."""
    if inventory.channels.console:
        return inventory.channels.console.jwt_secret
    other = _other_secret(inventory.channels)
    if other is None:
        return None
    purpose = f"clawd-provision: questions of verify, project {inventory.project}"
    key = other.get_secret_value().encode()
    return SecretStr(hmac.new(key, purpose.encode(), hashlib.sha256).hexdigest())


def has_page(inventory: Inventory) -> bool:
    """Return whether the console serves the page in the browser."""
    return inventory.channels.console is not None and inventory.channels.console.page


def allowed(inventory: Inventory, declared: tuple[str, ...]) -> tuple[str, ...]:
    """Return the networks whose requests nginx passes to the console, its own host included; all if empty."""
    if inventory.channels.console is None:
        return LOOPBACK
    return (*LOOPBACK, *declared) if declared else ()


def token_for(secret: SecretStr, user: str) -> str:
    """Return a token of the console for `user`, valid for some minutes."""
    now = int(time.time())
    claims = {
        "sub": user,
        "iat": now - CLOCK_DIFFERENCE_S,
        "exp": now + TOKEN_LIFETIME_S,
        "jti": str(uuid.uuid4()),
    }
    return jwt.encode(claims, secret.get_secret_value(), algorithm="HS256")


def _other_secret(channels: Channels) -> SecretStr | None:
    if channels.telegram:
        return channels.telegram.token
    return channels.feishu.app_secret if channels.feishu else None
