"""The front door, as declared."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from inventory.declared import Declared, Port


class Nginx(Declared):
    """nginx, the only thing that the internet reaches."""

    https_port: Port = Field(443, description="Webhooks and console.")
    http_port: Port = Field(80, description="Answers with a redirect to HTTPS.")
    requests_per_second: Annotated[int, Field(ge=1)] = Field(20, description="Per client address.")
    max_body: str = Field("1m", pattern=r"^[0-9]+[km]$", description="Largest request.")
