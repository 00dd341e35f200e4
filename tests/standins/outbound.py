"""Calls from a stand-in to the bot's webhook, over TLS as the real platform makes them."""

from __future__ import annotations

import functools
import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path

import httpx


@dataclass(frozen=True)
class Reach:
    """How names become addresses and whom to trust.

    `resolve` maps a host name to an address, as an entry of /etc/hosts would; `ca` is a PEM file that takes
    the place of the public authorities.
    """

    resolve: dict[str, str] = field(default_factory=dict)
    ca: Path | None = None


def is_address(host: str) -> bool:
    """Return whether `host` is an IP address and not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def trust(ca: Path | None, certificate: str | None = None) -> ssl.SSLContext:
    """Return a context that trusts `certificate` (PEM) alone, else `ca`, else the public authorities."""
    if certificate is None and ca is None:
        return _public()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate is not None:
        context.load_verify_locations(cadata=certificate)
    else:
        context.load_verify_locations(cafile=str(ca))
    return context


@functools.cache
def _public() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_default_certs()
    return context


@dataclass(frozen=True)
class Target:
    """A webhook's URL with its host replaced by the address to connect to."""

    url: httpx.URL
    host: str
    address: str

    @classmethod
    def of(cls, url: str, reach: Reach) -> Target:
        """Return `url` as `reach` resolves it."""
        parsed = httpx.URL(url)
        address = reach.resolve.get(parsed.host, parsed.host)
        return cls(parsed.copy_with(host=address), parsed.host, address)

    def request(self, client: httpx.AsyncClient, body: bytes, headers: dict[str, str]) -> httpx.Request:
        """Return a POST whose Host header, SNI and certificate check are those of the name."""
        port = f":{self.url.port}" if self.url.port else ""
        return client.build_request(
            "POST",
            self.url,
            content=body,
            headers={**headers, "Host": f"{self.host}{port}", "Content-Type": "application/json"},
            extensions={"sni_hostname": self.host},
        )
