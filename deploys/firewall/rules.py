"""The rules of the table `clawd`, as lines of nftables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from deploys.component import Opening
from deploys.firewall.settings import FirewallSettings
from inventory.types import Network

Resolved = Mapping[str, tuple[str, ...]]
"""Addresses by host name."""


def accepting(settings: FirewallSettings, ssh_ports: Iterable[int], resolved: Resolved) -> tuple[str, ...]:
    """Return the rules for new connections: SSH from the management networks, then the openings in order."""
    ports = ", ".join(str(port) for port in sorted(set(ssh_ports)))
    rules = list(_rules(f"tcp dport {{ {ports} }}", settings.management, "ssh"))
    for opening in settings.openings:
        networks = tuple(network for source in opening.sources for network in _networks(source, resolved))
        rules += _limits(opening)
        rules += _rules(f"{opening.protocol} dport {opening.port}", networks, opening.purpose)
    return tuple(rules)


def counts(settings: FirewallSettings) -> tuple[tuple[str, str], ...]:
    """Return the sets in which the kernel counts clients' connections: name and type of address."""
    ports = [opening.port for opening in settings.openings if opening.connections]
    return tuple((f"clients{version}_{port}", f"ipv{version}_addr") for port in ports for version in (4, 6))


def names_in(settings: FirewallSettings) -> tuple[str, ...]:
    """Return the sources that are host names, which have to be resolved first."""
    sources = {source for opening in settings.openings for source in opening.sources}
    return tuple(sorted(source for source in sources if _literal(source) is None))


def admits(networks: tuple[Network, ...], client: str) -> bool:
    """Return whether `client`, an address as sshd reports it, may use SSH; everyone may without networks."""
    address = ip_address(client.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return not networks or any(address in network for network in networks)


def _limits(opening: Opening) -> Iterator[str]:
    """Yield the rules that limit a client's connections; an IPv6 client is its /64 network."""
    if not opening.connections:
        return
    match = f"{opening.protocol} dport {opening.port}"
    spared = _by_family(opening.unlimited)
    for family, version, client in (
        ("ip", 4, "ip saddr"),
        ("ip6", 6, "ip6 saddr and ffff:ffff:ffff:ffff::"),
    ):
        but = f"{family} saddr != {{ {spared[family]} }} " if spared[family] else ""
        counted = f"add @clients{version}_{opening.port} {{ {client} ct count over {opening.connections} }}"
        yield f'{match} {but}{counted} reject with tcp reset comment "{opening.purpose}, too many"'


def _rules(match: str, networks: tuple[Network, ...], purpose: str) -> Iterator[str]:
    if not networks:
        yield f'{match} accept comment "{purpose}"'
    for family, written in _by_family(networks).items():
        if written:
            yield f'{match} {family} saddr {{ {written} }} accept comment "{purpose}"'


def _by_family(networks: Iterable[Network]) -> dict[str, str]:
    """Return the elements of a set by family; sets of nftables must not have overlapping networks."""
    four = [network for network in networks if isinstance(network, IPv4Network)]
    six = [network for network in networks if isinstance(network, IPv6Network)]
    return {
        "ip": ", ".join(_written(network) for network in collapse_addresses(four)),
        "ip6": ", ".join(_written(network) for network in collapse_addresses(six)),
    }


def _written(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _networks(source: str, resolved: Resolved) -> tuple[Network, ...]:
    literal = _literal(source)
    return (literal,) if literal is not None else tuple(ip_network(address) for address in resolved[source])


def _literal(source: str) -> Network | None:
    try:
        return ip_network(source)
    except ValueError:
        return None
