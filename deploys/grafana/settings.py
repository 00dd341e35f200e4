"""Settings of Grafana: what it shows, and to which networks."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings, Need, Opening
from deploys.resources import HostResources
from deploys.topology.addresses import canonical
from deploys.topology.monitoring import ALERTMANAGER_PORT, PROMETHEUS_PORT, monitoring_host
from inventory.model import Inventory
from inventory.sections.monitoring import Thresholds
from inventory.types import Network, RepositoryUrl
from inventory.values import MIB

MEMORY, PROGRAMS, DATA = 200 * MIB, 650 * MIB, 64 * MIB


class GrafanaSettings(ComponentSettings):
    """One Grafana."""

    project: str = "clawd"
    name: str = Field("127.0.0.1", description="Name of this host in its certificate.")
    port: int = 3000
    open_to: tuple[Network, ...] = Field(
        (), description="Networks that reach it, by HTTPS; only the host itself when empty."
    )
    admin_password: SecretStr
    repository: RepositoryUrl = "https://apt.grafana.com"
    key: Path | None = Field(None, description="The repository's public key, on the laptop.")
    package: Path | None = Field(None, description="A .deb on the laptop, instead of the repository.")
    prometheus: str = f"http://127.0.0.1:{PROMETHEUS_PORT}"
    alertmanager: str = f"http://127.0.0.1:{ALERTMANAGER_PORT}"
    scrape_interval: int = 15
    thresholds: Thresholds = Thresholds()

    @property
    def url(self) -> str:
        """Return the URL at which the host itself reaches it."""
        return f"{'https' if self.open_to else 'http'}://127.0.0.1:{self.port}"


def settings_for(inventory: Inventory, host: str) -> GrafanaSettings | None:
    """Return the Grafana of the monitoring host; `None` elsewhere, and when none is declared."""
    declared = inventory.monitoring.grafana
    if declared is None or host != monitoring_host(inventory):
        return None
    return GrafanaSettings(
        project=inventory.project,
        name=canonical(inventory.internal(host)),
        port=declared.port,
        open_to=declared.open_to,
        admin_password=declared.admin_password,
        repository=declared.repository.rstrip("/"),
        key=declared.key,
        package=declared.package,
        scrape_interval=inventory.monitoring.scrape_interval,
        thresholds=inventory.monitoring.thresholds,
    )


def openings_for(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """Return the port of its web pages, for the declared networks."""
    settings = settings_for(inventory, host)
    if settings is None or not settings.open_to:
        return ()
    return (Opening(port=settings.port, sources=tuple(map(str, settings.open_to)), purpose="grafana"),)


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return the port of its web pages."""
    settings = settings_for(inventory, host)
    return () if settings is None else (settings.port,)


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return one process and its programs."""
    if settings_for(inventory, host) is None:
        return ()
    how = "memory: process 200 MiB; disk: programs 650 MiB + its database 64 MiB (sizes by its documentation)"
    return (Need("Grafana", memory=MEMORY, disk=PROGRAMS + DATA, how=how),)
