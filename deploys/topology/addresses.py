"""Addresses of hosts in the form of URLs, of nginx and of certificates."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from inventory.model import Inventory


def host_and_port(address: str, port: int) -> str:
    """Return `address:port` in the form of URLs and nginx, with brackets around an IPv6 address."""
    return f"{bracketed(address)}:{port}"


def bracketed(address: str) -> str:
    """Return `address` in the form of URLs and the header Host: an IPv6 address in brackets."""
    try:
        return f"[{address}]" if isinstance(ip_address(address), IPv6Address) else address
    except ValueError:
        return address


def canonical(name: str) -> str:
    """Return an address in its shortest form, or a DNS name in lower case and ASCII, as in certificates."""
    try:
        return str(ip_address(name))
    except ValueError:
        return name.lower() if name.isascii() else name.lower().encode("idna").decode()


def project_names(inventory: Inventory) -> tuple[str, ...]:
    """Return all names and addresses of the hosts of a project, in the form of certificates."""
    names = {*inventory.tls.names}
    for name, host in inventory.hosts.items():
        names |= {name, host.address, *([host.internal_address] if host.internal_address else ())}
    return tuple(sorted(canonical(name) for name in names))
