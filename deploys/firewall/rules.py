"""The rules of the table `clawd`, as lines of nftables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network

from deploys.firewall.settings import FirewallSettings
from inventory.model import Network

Resolved = Mapping[str, tuple[str, ...]]
"""Host names, each with the addresses it stands for."""


def accepting(settings: FirewallSettings, ssh_ports: Iterable[int], resolved: Resolved) -> tuple[str, ...]:
    """The rules that let new connections in: SSH from the management networks, then the openings in order."""
    ports = ", ".join(str(port) for port in sorted(set(ssh_ports)))
    rules = list(_rules(f"tcp dport {{ {ports} }}", settings.management, "ssh"))
    for opening in settings.openings:
        networks = tuple(network for source in opening.sources for network in _networks(source, resolved))
        rules += _rules(f"{opening.protocol} dport {opening.port}", networks, opening.purpose)
    return tuple(rules)


def names_in(settings: FirewallSettings) -> tuple[str, ...]:
    """The sources that are host names, which have to be resolved first."""
    sources = {source for opening in settings.openings for source in opening.sources}
    return tuple(sorted(source for source in sources if _literal(source) is None))


def admits(networks: tuple[Network, ...], client: str) -> bool:
    """Whether a client may use SSH. `client` is an address as sshd reports it; none given admits everyone."""
    address = ip_address(client.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return not networks or any(address in network for network in networks)


def _rules(match: str, networks: tuple[Network, ...], purpose: str) -> Iterator[str]:
    if not networks:
        yield f'{match} accept comment "{purpose}"'
    four = [network for network in networks if isinstance(network, IPv4Network)]
    six = [network for network in networks if isinstance(network, IPv6Network)]
    # A set of nftables may not hold networks that overlap.
    for family, chosen in (("ip", [*collapse_addresses(four)]), ("ip6", [*collapse_addresses(six)])):
        if chosen:
            written = ", ".join(_written(network) for network in chosen)
            yield f'{match} {family} saddr {{ {written} }} accept comment "{purpose}"'


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
