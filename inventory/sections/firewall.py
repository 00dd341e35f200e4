"""The section `firewall` of an inventory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inventory.types import Declared, Network, Port


class OpenPort(Declared):
    """A port that the firewall opens."""

    port: Port = Field(description="Port number.")
    protocol: Literal["tcp", "udp"] = Field("tcp", description="Transport protocol.")
    from_: tuple[Network, ...] = Field(
        (), alias="from", description="Networks that may use the port; all when empty."
    )


class Firewall(Declared):
    """The firewall (nftables), which drops traffic to all ports that are not declared or needed."""

    enabled: bool = Field(True, description="Whether the firewall is managed.")
    open: tuple[OpenPort, ...] = Field((), description="Open ports in addition to those of the components.")
    management: tuple[Network, ...] = Field((), description="Networks that may use SSH; all when empty.")
