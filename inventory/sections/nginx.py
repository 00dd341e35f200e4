"""The front door, as declared."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inventory.declared import BodySize, Declared, Network, Port

Rate = Annotated[int, Field(ge=1, le=100_000)]


class Limit(Declared):
    """How much of one path a client may use."""

    requests_per_second: Rate | None = Field(
        None, description="Per client address; `nginx.requests_per_second` when absent."
    )
    burst: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        None, description="Requests that may come at once beyond that; two seconds' worth when absent."
    )


class Limits(Declared):
    """How often one client may ask for each path."""

    telegram: Limit = Field(Limit(), description="Telegram's webhook.")
    feishu: Limit = Field(Limit(), description="Feishu's webhook.")
    console: Limit = Field(Limit(), description="The console.")
    health: Limit = Field(Limit(), description="/healthz.")


class Allow(Declared):
    """Who may use each path. Where nothing is named, everyone."""

    telegram_ranges: bool = Field(
        False, description="Telegram's webhook is for the networks that Telegram documents."
    )
    telegram: tuple[Network, ...] = Field((), description="Further networks for Telegram's webhook.")
    feishu: tuple[Network, ...] = Field(
        (), description="Networks for Feishu's webhook; Feishu itself documents none that are fixed."
    )
    console: tuple[Network, ...] = Field((), description="Networks for the console.")


class Nginx(Declared):
    """nginx, the only thing that the internet reaches."""

    https_port: Port = Field(443, description="Webhooks and console.")
    http_port: Port = Field(80, description="Answers with a redirect to HTTPS.")
    requests_per_second: Rate = Field(20, description="Per client address and path.")
    limits: Limits = Field(Limits(), description="Other limits for single paths.")
    connections: Annotated[int, Field(ge=1, le=65535)] = Field(
        128, description="Connections that a client address may have open; Telegram opens up to 100."
    )
    allow: Allow = Field(Allow(), description="Who may use each path.")
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Proxies before nginx, whose X-Forwarded-For names the client."
    )
    max_body: BodySize = Field("1m", description="Largest request.")
    maintenance: bool = Field(
        False, description="Whether webhooks and console are told to come back later, and people why."
    )
    retry_after: Annotated[int, Field(ge=1, le=86_400)] = Field(
        60, description="Seconds after which they are told to come back."
    )
