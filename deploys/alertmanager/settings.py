"""Where alerts go: from Alertmanager to bots; `deploys.runtime.alerts` has the way from there to people."""

from __future__ import annotations

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings, Need
from deploys.resources import HostResources
from deploys.topology.monitoring import (
    ALERTMANAGER_PORT,
    announcing_bots,
    monitoring_host,
    scrape_scheme,
    scraped_at,
    scraped_bot_port,
)
from inventory.model import Inventory
from inventory.values import MIB


class AlertmanagerSettings(ComponentSettings):
    """One Alertmanager."""

    bots: tuple[str, ...] = Field(
        (), description="URLs at which bots take alerts; `https` with certificates on both sides."
    )
    token: SecretStr | None = Field(None, description="Bearer token by which it authenticates to the bots.")
    group_wait: int = 30
    group_interval: int = 300


def settings_for(inventory: Inventory, host: str) -> AlertmanagerSettings | None:
    """Return the Alertmanager of the monitoring host; `None` elsewhere."""
    if host != monitoring_host(inventory):
        return None
    declared = inventory.monitoring.alerts
    if declared is None:
        return AlertmanagerSettings()
    return AlertmanagerSettings(
        bots=tuple(_alerts_url(inventory, bot) for bot in announcing_bots(inventory)),
        token=declared.token,
        group_wait=declared.group_wait,
        group_interval=declared.group_interval,
    )


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return one small process."""
    if settings_for(inventory, host) is None:
        return ()
    how = "memory: process 48 MiB; disk: programs 45 MiB + silences and notifications 19 MiB"
    return (Need("Alertmanager", memory=48 * MIB, disk=64 * MIB, how=how),)


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return its own port, on loopback."""
    return (ALERTMANAGER_PORT,) if host == monitoring_host(inventory) else ()


def _alerts_url(inventory: Inventory, bot: str) -> str:
    place = scraped_at(inventory, bot, scraped_bot_port(inventory, bot))
    return f"{scrape_scheme(inventory, bot)}://{place}/alerts"
