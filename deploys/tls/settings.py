"""Which certificate a host should have."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Literal

from pydantic import Field

from deploys.component import ComponentSettings
from inventory.model import Inventory


class TlsSettings(ComponentSettings):
    """The certificate of one host; the project names its authority."""

    project: str = "clawd"
    mode: Literal["own-ca", "self-signed"] = "own-ca"
    names: tuple[str, ...] = Field(min_length=1, description="DNS names in ASCII, and IP addresses.")
    lifetime_days: int = 90
    renew_fraction: float = 0.33
    client: bool = Field(False, description="Whether its owner also shows it to servers, as a client.")


def settings_for(inventory: Inventory, host: str) -> TlsSettings | None:
    """The certificate of `host`, in its own address's name when none is declared; only nginx needs one."""
    if "nginx" not in inventory.hosts[host].roles:
        return None
    tls = inventory.tls
    return TlsSettings(
        project=inventory.project,
        mode=tls.mode,
        names=tuple(canonical(name) for name in tls.names or (inventory.hosts[host].address,)),
        lifetime_days=tls.lifetime_days,
        renew_fraction=tls.renew_fraction,
    )


def canonical(name: str) -> str:
    """An address in its shortest form, or a DNS name in lower case and ASCII, as certificates have them."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower() if name.isascii() else name.lower().encode("idna").decode()
