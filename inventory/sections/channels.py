"""The section `channels` of an inventory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from inventory.types import Declared, ServerUrl


class Telegram(Declared):
    """A Telegram bot."""

    token: SecretStr = Field(description="Bot token from BotFather.")
    mode: Literal["webhook", "polling"] = Field(
        "webhook",
        description="How messages arrive: `webhook` if Telegram calls nginx, `polling` if the bot polls "
        "Telegram.",
    )
    secret_token: SecretStr | None = Field(
        None,
        description="Secret of webhook calls, at least 16 characters; required in webhook mode.",
    )
    api_base: ServerUrl = Field("https://api.telegram.org", description="Base URL of the Bot API.")


class Feishu(Declared):
    """A Feishu (Lark) app with a bot."""

    app_id: str = Field(
        pattern=r"^cli_[A-Za-z0-9_]+$", description="App id from the developer console, `cli_…`."
    )
    app_secret: SecretStr = Field(description="App secret from the developer console.")
    encrypt_key: SecretStr = Field(
        description="Encrypt key, which encrypts and signs events; at least 16 characters."
    )
    verification_token: SecretStr = Field(description="Verification token, which every event carries.")
    api_base: ServerUrl = Field("https://open.feishu.cn", description="Base URL of the open platform.")


class Console(Declared):
    """The channel of `clawd-provision chat` and of the page in the browser, over HTTPS."""

    jwt_secret: SecretStr = Field(
        description="Secret that signs the tokens of `clawd-provision chat`; at least 32 bytes."
    )
    page: bool = Field(
        True,
        description="Whether it also serves a page in the browser at `/console/`; people log in with a link "
        "of `clawd-provision console link`.",
    )


class Channels(Declared):
    """The channels through which people use the bot."""

    telegram: Telegram | None = Field(None, description="Telegram bot.")
    feishu: Feishu | None = Field(None, description="Feishu app.")
    console: Console | None = Field(
        None, description="Channel of `clawd-provision chat` and of the page in the browser."
    )
