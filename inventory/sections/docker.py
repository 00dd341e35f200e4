"""The section `docker` of an inventory."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from inventory.types import (
    Declared,
    DockerFolder,
    Image,
    LogSize,
    Mirror,
    Proxy,
    Registry,
    RegistryUser,
    RepositoryUrl,
    Unproxied,
)

DOCKER_HUB = "docker.io"


class RegistryLogin(Declared):
    """A login at a registry."""

    user: RegistryUser = Field(description="Login name, or the name that belongs to an access token.")
    password: SecretStr = Field(description="Password or access token.")


class Docker(Declared):
    """The Docker engine, and the images for `runtime.run_with: docker`."""

    enabled: bool | None = Field(
        None, description="Whether hosts have Docker; when absent, only hosts that need it."
    )
    source: Literal["distribution", "docker"] = Field(
        "distribution",
        description="Source of the packages: docker.io of the `distribution`, or docker-ce from the "
        "repository of `docker`.",
    )
    repository: RepositoryUrl = Field(
        "https://download.docker.com/linux",
        description="URL of Docker's repository or a mirror for `source: docker`; /debian or /ubuntu is "
        "appended.",
    )
    key: Path | None = Field(
        None, description="Path of the repository's public key; required with `source: docker`."
    )
    data_root: DockerFolder = Field("/var/lib/docker", description="Folder of images and volumes.")
    log_size: LogSize = Field("20m", description="Size at which a container's log file is rotated.")
    log_files: Annotated[int, Field(ge=1, le=100)] = Field(
        5, description="Number of log files to keep of each container."
    )
    address_pool: IPv4Network = Field(
        IPv4Network("172.28.0.0/14"),
        description="Network from which Docker's networks get their addresses; it must be unused elsewhere.",
    )
    registry_mirrors: tuple[Mirror, ...] = Field(
        (), description="Mirrors of Docker Hub, tried before Docker Hub itself."
    )
    proxy: Proxy | None = Field(None, description="HTTP proxy through which the engine reaches registries.")
    no_proxy: tuple[Unproxied, ...] = Field((), description="Names and networks reached without the proxy.")
    base_image: Image | None = Field(
        None,
        description="Image with Python, pulled from a registry, on which the runtime's image is built; "
        "when absent, a base image is built from the host's own Python without a registry.",
    )
    registry: Registry | None = Field(
        None,
        description="Registry (HOST[:PORT][/PATH]) through which hosts share the runtime's images; "
        "when absent, each host builds its own.",
    )
    registry_authority: Path | None = Field(
        None,
        description="Path of a PEM file with the certificate authority of the registries named here, "
        "unless it is a public one.",
    )
    registry_login: RegistryLogin | None = Field(
        None,
        description="Login at the registry of `registry`, else of `base_image`; when absent, the one that "
        "`docker login` stored for root on the hosts.",
    )

    @property
    def registries(self) -> tuple[str, ...]:
        """Return `HOST[:PORT]` of the registries in `registry`, `base_image` and `registry_mirrors`."""
        images = (f"{self.registry}/" if self.registry else "", self.base_image or "")
        hosts = (name for name in map(registry_of, images) if name != DOCKER_HUB)
        mirrors = (mirror.partition("://")[2].rstrip("/") for mirror in self.registry_mirrors)
        return tuple(dict.fromkeys((*hosts, *mirrors)))

    @property
    def logged_in_at(self) -> str | None:
        """Return `HOST[:PORT]` of the registry for `registry_login`; `None` when none is declared."""
        images = (f"{self.registry}/" if self.registry else "", self.base_image)
        return next((registry_of(image) for image in images if image), None)


def registry_of(image: str) -> str:
    """Return `HOST[:PORT]` of an image's registry.

    Source: github.com/distribution/reference, `splitDockerDomain`.
    """
    first, slash, _ = image.partition("/")
    # Without a dot, a port or the name localhost, the first part belongs to an image of Docker Hub.
    elsewhere = slash and ("." in first or ":" in first or first == "localhost")
    return first if elsewhere else DOCKER_HUB
