"""Where alerts go: from Alertmanager to a bot, and from the bot to people."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings, Need
from deploys.exporters.settings import MIB, bot_port, monitoring_host, scheme, target
from deploys.resources import HostResources
from inventory.model import Inventory

PORT = 9093


class AlertmanagerSettings(ComponentSettings):
    """One Alertmanager."""

    bots: tuple[str, ...] = Field(
        (), description="URLs at which bots take alerts; `https` with certificates on both sides."
    )
    token: SecretStr | None = Field(None, description="Bearer token by which it authenticates to the bots.")
    group_wait: int = 30
    group_interval: int = 300


class AlertsChannelSettings(ComponentSettings):
    """The bots' part: where they announce alerts. Without secrets."""

    language: Literal["en", "zh"]
    telegram_chat: int | None = None
    feishu_chat: str | None = None
    custom_bot: bool = False
    custom_bot_signs: bool = False


def settings_for(inventory: Inventory, host: str) -> AlertmanagerSettings | None:
    """Return the Alertmanager of the monitoring host; `None` elsewhere."""
    if host != monitoring_host(inventory):
        return None
    declared = inventory.monitoring.alerts
    if declared is None:
        return AlertmanagerSettings()
    return AlertmanagerSettings(
        bots=tuple(_alerts_url(inventory, bot) for bot in announcing(inventory)),
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
    return (PORT,) if host == monitoring_host(inventory) else ()


def _alerts_url(inventory: Inventory, bot: str) -> str:
    place = target(inventory, bot, bot_port(inventory, bot))
    return f"{scheme(inventory, bot)}://{place}/alerts"


def announcing(inventory: Inventory) -> tuple[str, ...]:
    """Return the runtime hosts whose bots receive alerts.

    All of them where they share a database: the first that stores a notification announces it, and the others
    recognize it. Bots with an inbox of their own would each announce it, so then only the first receives it.
    """
    bots = tuple(inventory.with_role("runtime"))
    return bots if inventory.database is not None else bots[:1]


def alerts_channel(inventory: Inventory) -> AlertsChannelSettings | None:
    """Return the bots' settings for alerts; `None` without a destination for alerts, or a monitoring host."""
    declared = inventory.monitoring.alerts
    if declared is None or monitoring_host(inventory) is None:
        return None
    spoken = inventory.bot.language
    return AlertsChannelSettings(
        language=declared.language or ("en" if spoken == "auto" else spoken),
        telegram_chat=declared.telegram_chat,
        feishu_chat=declared.feishu_chat,
        custom_bot=declared.feishu_webhook is not None,
        custom_bot_signs=declared.feishu_webhook_secret is not None,
    )


def alerts_credentials(inventory: Inventory) -> dict[str, SecretStr]:
    """Return the secrets of the bots' part, by the names of their credentials."""
    declared = inventory.monitoring.alerts
    if declared is None or alerts_channel(inventory) is None:
        return {}
    found = {
        "alerts-token": declared.token,
        "alerts-feishu-webhook": declared.feishu_webhook,
        "alerts-feishu-secret": declared.feishu_webhook_secret,
    }
    return {name: value for name, value in found.items() if value is not None}
