"""The section `nginx` of an inventory."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inventory.types import BodySize, Declared, Network, Port

Rate = Annotated[int, Field(ge=1, le=100_000)]


class Limit(Declared):
    """The rate limit of one path."""

    requests_per_second: Rate | None = Field(
        None,
        description="Requests per second and client address; `nginx.requests_per_second` when absent.",
    )
    burst: Annotated[int, Field(ge=0, le=1_000_000)] | None = Field(
        None,
        description="Number of requests that may exceed the rate at once; the requests of two seconds when "
        "absent.",
    )


class Limits(Declared):
    """The rate limits of single paths."""

    telegram: Limit = Field(Limit(), description="Limit of Telegram's webhook.")
    feishu: Limit = Field(Limit(), description="Limit of Feishu's webhook.")
    console: Limit = Field(Limit(), description="Limit of the console.")
    health: Limit = Field(Limit(), description="Limit of /healthz.")


class Allow(Declared):
    """The networks that may use each path; all when none are declared."""

    telegram_ranges: bool | None = Field(
        None,
        description="Whether Telegram's webhook is limited to the networks that Telegram documents; true "
        "when absent, unless `channels.telegram.api_base` names another server.",
    )
    telegram: tuple[Network, ...] = Field(
        (), description="Additional networks that may call Telegram's webhook."
    )
    feishu: tuple[Network, ...] = Field(
        (), description="Networks that may call Feishu's webhook; Feishu documents no fixed ones."
    )
    console: tuple[Network, ...] = Field((), description="Networks that may use the console.")


class Nginx(Declared):
    """nginx, the only service that is reachable from the internet."""

    https_port: Port = Field(443, description="Port of webhooks and console.")
    http_port: Port = Field(80, description="Port that redirects to HTTPS and answers ACME challenges.")
    requests_per_second: Rate = Field(20, description="Requests per second, client address and path.")
    limits: Limits = Field(Limits(), description="Rate limits of single paths.")
    connections: Annotated[int, Field(ge=1, le=65535)] = Field(
        128,
        description="Maximum number of open connections of a client address; Telegram opens up to 100.",
    )
    allow: Allow = Field(Allow(), description="Networks that may use each path.")
    trusted_proxies: tuple[Network, ...] = Field(
        (), description="Proxies in front of nginx whose X-Forwarded-For contains the client's address."
    )
    max_body: BodySize = Field("1m", description="Maximum size of a request body.")
    maintenance: bool = Field(
        False,
        description="Maintenance mode: webhooks and console answer 503, and visitors see a notice.",
    )
    retry_after: Annotated[int, Field(ge=1, le=86_400)] = Field(
        60, description="Value of Retry-After in maintenance mode, in seconds."
    )
