"""Settings of Docker on a host."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

from pydantic import Field

from deploys.component import MACHINE_ROOT, ComponentSettings, Need, Opening
from deploys.resources import HostResources
from deploys.topology.containers import has_docker, runs_containers
from deploys.topology.engines import may_have_gpu
from inventory.model import Inventory
from inventory.types import DockerFolder, LogSize, Mirror, Proxy, RepositoryUrl, Unproxied

PACKAGES: dict[str, tuple[str, ...]] = {
    "trixie": ("docker.io", "docker-cli"),  # the client became a separate package
}
"""The distribution's packages, by code name of the release; for all others only `docker.io`. Tested on Debian
12 and 13; for Ubuntu 22.04 and 24.04 by their package lists, not tested."""

DOCKERS_OWN = ("docker-ce", "docker-ce-cli", "containerd.io")
"""Packages of Docker's repository, the same for every release (docs.docker.com/engine/install)."""

MB = 1000**2
# Measured on Debian 13.
MEMORY = 160 * MB
PROGRAMS, BASE, RELEASE, KEPT = 320 * MB, 60 * MB, 140 * MB, 3


class DockerSettings(ComponentSettings):
    """The Docker engine of one host. In plain data every field is optional."""

    source: Literal["distribution", "docker"] = "distribution"
    repository: RepositoryUrl = "https://download.docker.com/linux"
    key: Path | None = Field(None, description="On the laptop; with `source: docker`.")
    data_root: DockerFolder = "/var/lib/docker"
    log_size: LogSize = "20m"
    log_files: int = 5
    address_pool: IPv4Network = IPv4Network("172.28.0.0/14")
    registry_mirrors: tuple[Mirror, ...] = ()
    registries: tuple[str, ...] = Field((), description="HOST[:PORT] of those verified by the authority.")
    registry_authority: Path | None = Field(None, description="PEM file on the laptop.")
    proxy: Proxy | None = None
    no_proxy: tuple[Unproxied, ...] = ()
    gpu: bool = Field(False, description="Whether containers get the host's NVIDIA GPUs, if it has any.")
    guarded: bool = Field(True, description="Whether the firewall guards what containers publish.")
    openings: tuple[Opening, ...] = Field((), description="Published ports that others may reach.")
    root: str = MACHINE_ROOT


def settings_for(inventory: Inventory, host: str) -> DockerSettings | None:
    """Return Docker's settings where `host` runs containers, or the inventory wants Docker everywhere."""
    docker = inventory.docker
    if not has_docker(inventory, host):
        return None
    return DockerSettings(
        source=docker.source,
        repository=docker.repository,
        key=docker.key,
        data_root=docker.data_root,
        log_size=docker.log_size,
        log_files=docker.log_files,
        address_pool=docker.address_pool,
        registry_mirrors=tuple(mirror.rstrip("/") for mirror in docker.registry_mirrors),
        registries=docker.registries if docker.registry_authority else (),
        registry_authority=docker.registry_authority,
        proxy=docker.proxy,
        no_proxy=docker.no_proxy,
        gpu=may_have_gpu(inventory, host),
        guarded=inventory.firewall.enabled,
        openings=tuple(
            Opening(port=item.port, protocol=item.protocol, sources=tuple(map(str, item.from_)))
            for item in inventory.firewall.open
        ),
    )


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return the resources of the engine itself."""
    if settings_for(inventory, host) is None:
        return ()
    images = BASE + KEPT * RELEASE if runs_containers(inventory, host) else 0
    how = "dockerd 85 MB + containerd 45 MB + 15 MB a container; programs 320 MB"
    if images:
        how += f" + base of the images 60 MB + {KEPT} releases of 140 MB"
    return (Need("Docker engine", memory=MEMORY, disk=PROGRAMS + images, how=how),)
