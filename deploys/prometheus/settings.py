"""Settings of Prometheus: what it measures, how often, and which thresholds fire alerts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploys.component import ComponentSettings, Need
from deploys.resources import HostResources
from deploys.topology.bots import fronts, https_address
from deploys.topology.database import has_database
from deploys.topology.engines import further_models, further_unit, local_model
from deploys.topology.monitoring import (
    ALERTMANAGER_PORT,
    BLACKBOX_PORT,
    NGINX_PORT,
    NODE_PORT,
    POSTGRES_PORT,
    PROMETHEUS_PORT,
    monitoring_host,
    scrape_scheme,
    scraped_at,
    scraped_bot_port,
)
from inventory.model import Inventory
from inventory.sections.monitoring import Thresholds
from inventory.values import MIB, size_in_bytes

SERIES_A_HOST = 1600
"""Node exporter 1,100, nginx 20, PostgreSQL 350, bot and engine 300: measured on the sandbox."""
BYTES_A_SERIES = 8 * 1024
"""Memory of a series: index and open chunk."""


class Target(ComponentSettings):
    """A target of measurements. `address` is how the monitoring host reaches it on `host`."""

    host: str
    address: str
    scheme: Literal["http", "https"] = Field(
        "http", description="https: over TLS, with certificates of the project on both sides."
    )
    module: str | None = Field(
        None, description="Module of the blackbox exporter, which then requests `address`."
    )


class ScrapeJob(ComponentSettings):
    """Targets of one kind."""

    name: str
    path: str = "/metrics"
    targets: tuple[Target, ...]


class PrometheusSettings(ComponentSettings):
    """One Prometheus."""

    project: str
    jobs: tuple[ScrapeJob, ...]
    scrape_interval: int
    evaluation_interval: int
    window: int
    sustained: int
    retention_size: str
    thresholds: Thresholds
    bot_memory: int = Field(description="Bytes that a bot may use.")


def settings_for(inventory: Inventory, host: str) -> PrometheusSettings | None:
    """Return the Prometheus of the monitoring host; `None` elsewhere."""
    if host != monitoring_host(inventory):
        return None
    declared = inventory.monitoring
    return PrometheusSettings(
        project=inventory.project,
        jobs=tuple(job for job in _jobs(inventory) if job.targets),
        scrape_interval=declared.scrape_interval,
        evaluation_interval=declared.evaluation_interval,
        window=declared.window,
        sustained=declared.sustained,
        retention_size=declared.retention_size,
        thresholds=declared.thresholds,
        bot_memory=size_in_bytes(inventory.bot.memory_max),
    )


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return memory for the open series, and disk space for what is retained."""
    settings = settings_for(inventory, host)
    if settings is None:
        return ()
    hosts = len(inventory.hosts)
    series = hosts * SERIES_A_HOST
    memory = 96 * MIB + series * BYTES_A_SERIES
    return (
        Need(
            "Prometheus",
            memory=memory,
            disk=100 * MIB,
            how=f"memory: 96 MiB + {hosts} hosts of {SERIES_A_HOST} series of 8 KiB; disk: programs 100 MiB",
        ),
        Need(
            "measurements",
            disk=int(size_in_bytes(settings.retention_size) * 1.1),
            path="/var/lib",
            how=f"monitoring.retention_size {settings.retention_size} + a tenth while blocks are joined",
        ),
    )


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return its own port, on loopback."""
    return (PROMETHEUS_PORT,) if host == monitoring_host(inventory) else ()


def _jobs(inventory: Inventory) -> tuple[ScrapeJob, ...]:
    hosts = tuple(inventory.hosts)
    with_nginx = fronts(inventory)
    with_database = tuple(host for host in hosts if has_database(inventory, host))
    bots = tuple(inventory.with_role("runtime"))
    engines = bots if local_model(inventory) else ()
    local = monitoring_host(inventory)

    def at(port: int, names: tuple[str, ...]) -> tuple[Target, ...]:
        return tuple(
            Target(
                host=name, address=scraped_at(inventory, name, port), scheme=scrape_scheme(inventory, name)
            )
            for name in names
        )

    def of_bots(names: tuple[str, ...]) -> tuple[Target, ...]:
        return tuple(found for name in names for found in at(scraped_bot_port(inventory, name), (name,)))

    probed = tuple(
        Target(host=front, address=f"https://{https_address(inventory, front)}/healthz", module=front)
        for front in with_nginx
    )
    watcher = (local,) if local else ()
    return (
        ScrapeJob(name="clawd-bot", targets=of_bots(bots)),
        ScrapeJob(name="clawd-engine", path="/engine/metrics", targets=of_bots(engines)),
        *(
            ScrapeJob(name=further_unit(name), path=f"/engine/{name}/metrics", targets=of_bots(bots))
            for name in (further_models(inventory, bots[0]) if bots else ())
        ),
        ScrapeJob(name="node", targets=at(NODE_PORT, hosts)),
        ScrapeJob(name="nginx", targets=at(NGINX_PORT, with_nginx)),
        ScrapeJob(name="postgres", targets=at(POSTGRES_PORT, with_database)),
        ScrapeJob(name="front", path="/probe", targets=probed),
        ScrapeJob(name="blackbox", targets=at(BLACKBOX_PORT, watcher if probed else ())),
        ScrapeJob(name="prometheus", targets=at(PROMETHEUS_PORT, watcher)),
        ScrapeJob(name="alertmanager", targets=at(ALERTMANAGER_PORT, watcher)),
    )
