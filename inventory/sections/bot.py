"""The section `bot` of an inventory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from inventory.types import Declared, Line, Port, Size, Text


class Bot(Declared):
    """clawd-bot, the process that talks to people."""

    system_prompt: Text = Field(
        "You are a helpful assistant.", description="System prompt of every conversation."
    )
    language: Literal["auto", "en", "zh"] = Field("auto", description="Language of the bot's own messages.")
    max_reply_tokens: Annotated[int, Field(ge=16)] = Field(
        512, description="Maximum length of a reply, in tokens."
    )
    rate_limit_per_minute: Annotated[int, Field(ge=1)] = Field(
        30, description="Messages that a user may send per minute; above 30 with a reason."
    )
    rate_limit_reason: Line | None = Field(
        None, description="Why a user may send more than 30 messages per minute."
    )
    memory_max: Size = Field("400M", description="Maximum memory of the bot.")
    port: Port = Field(8080, description="Port of the bot's HTTP server, behind nginx on the same host.")
    internal_port: Port = Field(
        8444, description="Port for nginx and monitoring on other hosts, over mutual TLS."
    )
