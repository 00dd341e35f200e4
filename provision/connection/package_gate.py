"""The servers that a host without internet may reach through this machine: those of its package sources.

Requests of a host are not trusted, because every user of the host can send them. A server must be in the
host's apt sources or in the inventory, and its name must not resolve to networks of this machine, unless the
inventory declares it as a mirror. The connection goes to the address that was checked.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from deploys.ops.programs import program
from inventory.model import Inventory

PORTS = {"http": 80, "https": 443}
SOURCES = program("provision/connection/scripts/sources.sh")
"""A shell script that prints the URLs of a host's package sources; mirror lists are expanded."""
_ASKED_AGAIN_S = 2.0
_OWN_NETWORKS = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.0.0.0/24", "192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/128", "::1/128", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8"),
        ),
    )
)
"""Networks without public addresses: private, shared, link-local, loopback, multicast, reserved (RFC
6890)."""
_GLOBAL = tuple(map(ip_network, ("2000::/3", "64:ff9b::/96", "::ffff:0:0/96")))
"""Where public addresses of IPv6 are: global unicast (RFC 4291), IPv4 behind NAT64 (RFC 6052), mapped IPv4.

All else is refused: among it compatible IPv4 (`::127.0.0.1`), translated IPv4 (`::ffff:0:127.0.0.1`,
RFC 2765) and NAT64 of one's own, which embeds IPv4 in more than one way (64:ff9b:1::/48, RFC 8215).
"""
_ISATAP = (0x00005EFE, 0x02005EFE)
"""Before an IPv4 address at the end of an IPv6 address (RFC 5214, section 6.1)."""


class RefusedError(Exception):
    """A host may not reach this server."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A server: scheme, host and port."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin | None:
        """Return the origin of a URL, including `mirror+http://…`; `None` when it is not HTTP."""
        try:
            parts = urlsplit(url)
            scheme, host = parts.scheme.rpartition("+")[2], parts.hostname
            port = PORTS.get(scheme) if parts.port is None else parts.port
        except ValueError:
            return None
        if scheme not in PORTS or not host or not port:
            return None
        return cls(scheme, host.lower().rstrip("."), port)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


class PackageGate:
    """The access control of one host.

    Args:
        sources: returns the URLs of the host's package sources.
        repositories: URLs of repositories that components add.
        mirrors: URLs that the inventory declares; they may be in private networks.

    """

    def __init__(
        self, sources: Callable[[], Iterable[str]], repositories: Iterable[str], mirrors: Iterable[str]
    ) -> None:
        self._sources = sources
        self._mirrors = _origins(mirrors)
        self._known = _origins(repositories) | self._mirrors
        self._asked = float("-inf")

    def addresses(self, origin: Origin) -> tuple[str, ...]:
        """Return the addresses to connect to. Raises `RefusedError`, and `OSError` for an unknown name."""
        if not self._is_known(origin):
            raise RefusedError(f"{origin} is in no package source of the host")
        found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
        addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
        if origin in self._mirrors:
            return addresses
        public = tuple(address for address in addresses if is_public(address))
        if not public:
            raise RefusedError(
                f"{origin} has the address {addresses[0]} in a private network of this machine; "
                "declare it under `base.mirrors` if it is a mirror"
            )
        return public

    def learn(self, url: str) -> None:
        """Add a server to which a permitted server has redirected."""
        origin = Origin.of(url)
        if origin is not None and origin.port == PORTS[origin.scheme]:
            self._known |= {origin}

    def _is_known(self, origin: Origin) -> bool:
        if origin in self._known:
            return True
        # Components may have added sources since.
        if time.monotonic() - self._asked < _ASKED_AGAIN_S:
            return False
        self._known |= _origins(self._sources())
        self._asked = time.monotonic()
        return origin in self._known


def is_public(address: str) -> bool:
    """Return whether an address, and any address embedded in it, is public."""
    if re.search("%", address):
        return False
    parsed = ip_address(address)
    if isinstance(parsed, IPv4Address):
        return not _is_own(parsed)
    if not any(parsed in network for network in _GLOBAL):
        return False
    return not _is_own(parsed) and not any(map(_is_own, _embedded(parsed)))


def _is_own(address: IPv4Address | IPv6Address) -> bool:
    return any(address in network for network in _OWN_NETWORKS)


def _embedded(address: IPv6Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses to which packets for an IPv6 address may be sent."""
    number = int(address)
    if address not in _GLOBAL[0] or number >> 32 & 0xFFFFFFFF in _ISATAP:
        yield IPv4Address(number & 0xFFFFFFFF)
    if address.sixtofour:
        yield address.sixtofour
    yield from address.teredo or ()


def repositories_of(inventory: Inventory) -> tuple[str, ...]:
    """Return the repositories that components add to a host, their own or declared ones."""
    grafana = inventory.monitoring.grafana
    return (
        inventory.docker.repository,
        inventory.nvidia.repository,
        inventory.nvidia.toolkit_repository,
        inventory.logs.packages.mirror,
        *((grafana.repository,) if grafana is not None else ()),
    )


def mirrors_of(inventory: Inventory) -> tuple[str, ...]:
    """Return the repositories that the inventory declares: `base.mirrors`, and those of components."""
    grafana = inventory.monitoring.grafana
    named = (
        (inventory.docker, ("repository",)),
        (inventory.nvidia, ("repository", "toolkit_repository")),
        (inventory.logs.packages, ("mirror",)),
        *(((grafana, ("repository",)),) if grafana is not None else ()),
    )
    declared = (getattr(at, key) for at, keys in named for key in keys if key in at.model_fields_set)
    return (*inventory.base.mirrors, *declared)


def _origins(urls: Iterable[str]) -> frozenset[Origin]:
    return frozenset(filter(None, map(Origin.of, urls)))
