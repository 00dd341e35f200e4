"""Rules for the section `docker` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, ip_address

from inventory.model import Inventory
from inventory.rule_findings import InventoryFinding, InventoryRule

SMALLEST_POOL = 20
"""Longest prefix: sixteen networks of 256 addresses."""
PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
"""Private networks (RFC 1918) and the shared address space of providers (RFC 6598)."""
SPECIAL = {
    IPv4Network("0.0.0.0/8"): "it has no addresses of hosts",
    IPv4Network("127.0.0.0/8"): "it is for loopback",
    IPv4Network("169.254.0.0/16"): "it is link-local",
    IPv4Network("224.0.0.0/4"): "it is for multicast",
}
"""Networks whose addresses containers cannot have (RFC 6890, RFC 5771)."""


def engine(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when Docker is needed but disabled, or its repository has no key."""
    docker = inventory.docker
    if inventory.runtime.run_with == "docker" and docker.enabled is False:
        yield InventoryFinding(
            (("docker", "enabled"), ("runtime", "run_with")),
            "`runtime.run_with: docker` needs Docker, but `docker.enabled` is false",
            "remove `docker.enabled`, or write `run_with: systemd`",
        )
    if docker.source == "docker" and docker.key is None:
        yield InventoryFinding(
            (("docker", "source"),),
            "packages of Docker's repository cannot be verified without its key",
            "download the file `gpg` of the repository, compare its fingerprint, and write its path as "
            "`docker.key`",
            (("docker", "key"),),
        )


def images(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when the base image has neither tag nor digest, so that it could change."""
    base = inventory.docker.base_image
    if base is not None and "@sha256:" not in base and ":" not in base.rpartition("/")[2]:
        yield InventoryFinding(
            (("docker", "base_image"),),
            f"`{base}` has neither tag nor digest: it would be the registry's latest image",
            f"write a version, `{base}:VERSION`, or better a digest, `{base}@sha256:…`",
        )


def authority(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when an authority is declared without a registry."""
    docker = inventory.docker
    if docker.registry_authority is not None and not docker.registries:
        yield InventoryFinding(
            (("docker", "registry_authority"),),
            "this authority is for no registry",
            "write a registry as HOST[:PORT]/… in `docker.registry` or `docker.base_image`, or remove this "
            "line",
        )


def login(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when a login is declared without a registry."""
    docker = inventory.docker
    if docker.registry_login is not None and docker.logged_in_at is None:
        yield InventoryFinding(
            (("docker", "registry_login"),),
            "this login is for no registry",
            "write a registry in `docker.registry` or `docker.base_image`, or remove this line",
        )


def addresses(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when Docker's address pool is too small, public, or contains a host's address."""
    pool = inventory.docker.address_pool
    if pool.prefixlen > SMALLEST_POOL:
        yield InventoryFinding(
            (("docker", "address_pool"),),
            f"{pool} is too small: it has room for fewer than 16 networks of 256 addresses",
            f"write a network of /{SMALLEST_POOL} or larger",
        )
    if (kind := _unusable(pool)) is not None:
        yield InventoryFinding(
            (("docker", "address_pool"),),
            f"{pool} {kind}",
            f"write a part of {', '.join(map(str, PRIVATE))}, such as 172.28.0.0/14",
        )
    for name, host in inventory.hosts.items():
        for key, address in (("address", host.address), ("internal_address", host.internal_address)):
            if address and _within(address, pool):
                yield InventoryFinding(
                    (("docker", "address_pool"), ("hosts", name, key)),
                    f"{address} of host {name} is in {pool}, Docker's address pool",
                    "write another private network as `docker.address_pool`",
                    (("hosts", name, key),),
                )


def _unusable(pool: IPv4Network) -> str | None:
    """Return why the addresses of a network cannot be those of containers; `None` when they can."""
    for network, kind in SPECIAL.items():
        if pool.overlaps(network):
            return f"is not a private network: {kind}"
    if pool.is_global:
        return "is a public network: containers could not reach its hosts"
    return None


def _within(address: str, pool: IPv4Network) -> bool:
    try:
        return ip_address(address) in pool
    except ValueError:
        return False


RULES: tuple[InventoryRule, ...] = (engine, images, authority, login, addresses)
