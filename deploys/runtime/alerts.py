"""The bots' part of alerts: where they announce those that Alertmanager sends them."""

from __future__ import annotations

from typing import Literal

from pydantic import SecretStr

from deploys.component import ComponentSettings
from deploys.topology.monitoring import monitoring_host
from inventory.model import Inventory


class AlertsChannelSettings(ComponentSettings):
    """Recipients of alerts. Without secrets."""

    language: Literal["en", "zh"]
    telegram_chat: int | None = None
    feishu_chat: str | None = None
    custom_bot: bool = False
    custom_bot_signs: bool = False


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
