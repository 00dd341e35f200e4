"""The keys and secrets of the sandbox: random, created once, readable by their owner only.

They have the form of the real services. A Telegram bot token is the bot's number, a colon and 35 characters
that begin with `AA`; a webhook's secret token has 1 to 256 of `A-Za-z0-9_-` (Telegram Bot API, setWebhook).
"""

from __future__ import annotations

import os
import secrets
import string
from collections.abc import Callable

from provision.local.user import hand_over
from provision.sandbox.commands import run
from provision.sandbox.layout import Layout

_LETTERS = string.ascii_letters + string.digits
_URL_SAFE = _LETTERS + "_-"


def _random(length: int, alphabet: str = _LETTERS) -> str:
    return "".join(secrets.choice(alphabet) for _ in range(length))


SECRETS: dict[str, Callable[[], str]] = {
    "telegram-token": lambda: f"{secrets.randbelow(900_000_000) + 100_000_000}:AA{_random(33, _URL_SAFE)}",
    "telegram-secret-token": lambda: _random(48, _URL_SAFE),
    "feishu-app-secret": lambda: _random(32),
    "feishu-encrypt-key": lambda: _random(32),
    "feishu-verification-token": lambda: _random(32),
    "console-jwt-secret": lambda: _random(64),
}
"""The names in `inventory/sandbox.yml`, and a function that creates each secret."""


OWN_NAME = ".sandbox"
"""A folder of this name contains only a sandbox; CLAWD_SANDBOX may be a folder with other files."""


def ensure_secrets(layout: Layout) -> None:
    """Create missing secrets, keep existing ones, and keep the whole folder out of git."""
    if not layout.secrets.is_dir():
        layout.secrets.mkdir(mode=0o700, parents=True)
        hand_over(layout.secrets)
    if layout.folder.name == OWN_NAME and not (layout.folder / ".gitignore").exists():
        (layout.folder / ".gitignore").write_text("*\n", encoding="ascii")
        hand_over(layout.folder / ".gitignore")
    for name, make in SECRETS.items():
        path = layout.secrets / name
        if not path.exists():
            half = layout.secrets / f".{name}.new"
            half.unlink(missing_ok=True)
            with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(make())
            hand_over(half)
            half.rename(path)


def ensure_key(layout: Layout) -> str:
    """Create the SSH key for the hosts if it is missing; return its public key."""
    public = layout.key.with_suffix(".pub")
    if not (layout.key.exists() and public.exists()):
        layout.key.unlink(missing_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "clawd-sandbox", "-f", str(layout.key)])
        hand_over(layout.key)
        hand_over(public)
    return public.read_text().strip()
