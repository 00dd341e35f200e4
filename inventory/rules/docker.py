"""What must hold for the section `docker` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, ip_address

from inventory.finding import Finding, Rule
from inventory.model import Inventory

SMALLEST_POOL = 20
"""Prefix length: sixteen networks of 256 addresses."""
PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
"""For networks of one's own (RFC 1918), and of providers (RFC 6598)."""


def engine(inventory: Inventory) -> Iterator[Finding]:
    """Docker is there where something needs it, and can be got from where it is declared to come from."""
    docker = inventory.docker
    if inventory.runtime.run_with == "docker" and docker.enabled is False:
        yield Finding(
            (("docker", "enabled"), ("runtime", "run_with")),
            "`runtime.run_with: docker` needs the engine that `docker.enabled: false` does without",
            "leave `docker.enabled` out, or write `run_with: systemd`",
        )
    if docker.source == "docker" and docker.key is None:
        yield Finding(
            (("docker", "source"),),
            "packages of Docker's repository cannot be trusted without its key",
            "get the file `gpg` from the repository, compare its fingerprint, and name it in `docker.key`",
            (("docker", "key"),),
        )


def images(inventory: Inventory) -> Iterator[Finding]:
    """A base image by name does not change by itself."""
    base = inventory.docker.base_image
    if base is not None and "@sha256:" not in base and ":" not in base.rpartition("/")[2]:
        yield Finding(
            (("docker", "base_image"),),
            f"`{base}` is whatever its registry calls the latest",
            f"name a version, `{base}:VERSION`, or better a digest, `{base}@sha256:…`",
        )


def authority(inventory: Inventory) -> Iterator[Finding]:
    """An authority is of some registry."""
    docker = inventory.docker
    if docker.registry_authority is not None and not docker.registries:
        yield Finding(
            (("docker", "registry_authority"),),
            "no registry is named that this authority could be of",
            "name it as HOST[:PORT]/… in `docker.registry` or `docker.base_image`, or leave this out",
        )


def login(inventory: Inventory) -> Iterator[Finding]:
    """A login is for some registry."""
    docker = inventory.docker
    if docker.registry_login is not None and docker.logged_in_at is None:
        yield Finding(
            (("docker", "registry_login"),),
            "no registry is named that this login could be for",
            "name it in `docker.registry` or `docker.base_image`, or leave this out",
        )


def addresses(inventory: Inventory) -> Iterator[Finding]:
    """Docker's networks do not take the addresses of hosts."""
    pool = inventory.docker.address_pool
    if pool.prefixlen > SMALLEST_POOL:
        yield Finding(
            (("docker", "address_pool"),),
            f"{pool} has room for too few networks of 256 addresses",
            f"write a network of /{SMALLEST_POOL} or larger",
        )
    if not any(map(pool.subnet_of, PRIVATE)):
        internet = pool.is_global and not pool.is_multicast
        why = "is of the internet, and containers could not reach what is there"
        yield Finding(
            (("docker", "address_pool"),),
            f"{pool} {why if internet else 'is not a private network, and containers cannot have it'}",
            f"write a part of {', '.join(map(str, PRIVATE))}, such as 172.28.0.0/14",
        )
    for name, host in inventory.hosts.items():
        for key, address in (("address", host.address), ("internal_address", host.internal_address)):
            if address and _within(address, pool):
                yield Finding(
                    (("docker", "address_pool"), ("hosts", name, key)),
                    f"{address} of host {name} lies in {pool}, from which Docker takes its networks",
                    "write another private network as `docker.address_pool`",
                    (("hosts", name, key),),
                )


def _within(address: str, pool: IPv4Network) -> bool:
    try:
        return ip_address(address) in pool
    except ValueError:
        return False


RULES: tuple[Rule, ...] = (engine, images, authority, login, addresses)
