"""What every declared value is made of: frozen, strict, and the small types they share."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Port = Annotated[int, Field(ge=1, le=65535)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Login = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._@-]{0,63}$")]
Network = IPv4Network | IPv6Network
Size = Annotated[str, Field(pattern=r"^[0-9]+[KMG]$")]
"""Bytes: a number with K, M or G (powers of 1024), as systemd writes them."""


class Declared(BaseModel):
    """A value of the inventory: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
