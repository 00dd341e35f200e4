"""Docker, as declared."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from inventory.declared import (
    Declared,
    DockerFolder,
    Image,
    LogSize,
    Mirror,
    Proxy,
    Registry,
    RegistryUser,
    Repository,
    Unproxied,
)

DOCKER_HUB = "docker.io"


class RegistryLogin(Declared):
    """A login at a registry."""

    user: RegistryUser = Field(description="Its name there, or what goes with an access token.")
    password: SecretStr = Field(description="Its password or access token.")


class Docker(Declared):
    """The Docker engine, and the images that `runtime.run_with: docker` runs."""

    enabled: bool | None = Field(
        None, description="Whether hosts have Docker; when absent, those where something needs it."
    )
    source: Literal["distribution", "docker"] = Field(
        "distribution", description="The distribution's docker.io, or docker-ce from Docker's repository."
    )
    repository: Repository = Field(
        "https://download.docker.com/linux",
        description="Docker's repository or a mirror; /debian or /ubuntu is added. With `source: docker`.",
    )
    key: Path | None = Field(
        None, description="File with the repository's public key; required with `source: docker`."
    )
    data_root: DockerFolder = Field("/var/lib/docker", description="Folder of images and volumes.")
    log_size: LogSize = Field("20m", description="A container's log file is rotated at this size.")
    log_files: Annotated[int, Field(ge=1, le=100)] = Field(5, description="Log files kept of a container.")
    address_pool: IPv4Network = Field(
        IPv4Network("172.28.0.0/14"),
        description="Docker's networks take their addresses from here; it must be free elsewhere.",
    )
    registry_mirrors: tuple[Mirror, ...] = Field((), description="Mirrors of Docker Hub, asked first.")
    proxy: Proxy | None = Field(None, description="HTTP proxy by which the engine reaches registries.")
    no_proxy: tuple[Unproxied, ...] = Field((), description="Names and networks reached without the proxy.")
    base_image: Image | None = Field(
        None,
        description="Image with Python that the runtime's is built on, pulled from a registry; "
        "when absent, one is made of the host's own Python, without any registry.",
    )
    registry: Registry | None = Field(
        None,
        description="Registry (HOST[:PORT][/PATH]) through which hosts share the runtime's images; "
        "each makes its own when absent.",
    )
    registry_authority: Path | None = Field(
        None,
        description="PEM file with the authority that signed the certificates of the registries named here, "
        "where that is no public one.",
    )
    registry_login: RegistryLogin | None = Field(
        None,
        description="Login at the registry of `registry`, else of `base_image`; when absent, "
        "what `docker login` left for root on the hosts.",
    )

    @property
    def registries(self) -> tuple[str, ...]:
        """`HOST[:PORT]` of the registries that `registry`, `base_image` and `registry_mirrors` name."""
        images = (f"{self.registry}/" if self.registry else "", self.base_image or "")
        hosts = (name for name in map(registry_of, images) if name != DOCKER_HUB)
        mirrors = (mirror.partition("://")[2].rstrip("/") for mirror in self.registry_mirrors)
        return tuple(dict.fromkeys((*hosts, *mirrors)))

    @property
    def logged_in_at(self) -> str | None:
        """`HOST[:PORT]` of the registry that `registry_login` is for; `None` when none is named."""
        images = (f"{self.registry}/" if self.registry else "", self.base_image)
        return next((registry_of(image) for image in images if image), None)


def registry_of(image: str) -> str:
    """`HOST[:PORT]` of an image's registry.

    Source: github.com/distribution/reference, `splitDockerDomain`.
    """
    first, slash, _ = image.partition("/")
    # Without a dot, a port or the name localhost, the first part belongs to an image of Docker Hub.
    elsewhere = slash and ("." in first or ":" in first or first == "localhost")
    return first if elsewhere else DOCKER_HUB
