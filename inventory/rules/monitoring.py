"""Rules for the section `monitoring` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.model import Inventory
from inventory.reading.source import KeyPath
from inventory.rule_findings import EVERY_ROLE, InventoryFinding, InventoryRule, at_least

LEAST_RETENTION = "512M"
SAMPLES_IN_WINDOW = 4
"""With fewer samples a rate would be missing after one failed scrape."""

HERE: KeyPath = ("monitoring",)
ALERTS: KeyPath = ("monitoring", "alerts")
GRAFANA: KeyPath = ("monitoring", "grafana")


def one_host(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding unless one host has the role monitoring; without the section none needs it."""
    watchers = list(inventory.with_role("monitoring"))
    for name in watchers[1:]:
        yield InventoryFinding(
            (("hosts", name, "roles"),),
            f"`{name}` and `{watchers[0]}` both have the role monitoring",
            "remove the role from one of them",
            (EVERY_ROLE,),
        )
    if not watchers and (inventory.monitoring.alerts or inventory.monitoring.grafana):
        yield InventoryFinding(
            (HERE,),
            "monitoring is declared, but no host has the role monitoring",
            "add `monitoring` to the roles of a host, or remove the section",
            (EVERY_ROLE,),
        )


def intervals(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when a window has too few samples, or the retention size is too small."""
    monitoring = inventory.monitoring
    least = SAMPLES_IN_WINDOW * monitoring.scrape_interval
    if monitoring.window < least:
        yield InventoryFinding(
            ((*HERE, "window"), (*HERE, "scrape_interval")),
            f"a window of {monitoring.window} s has too few samples: one every "
            f"{monitoring.scrape_interval} s",
            f"write at least {least}, or a smaller `scrape_interval`",
        )
    yield from at_least((*HERE, "retention_size"), monitoring.retention_size, LEAST_RETENTION, "Prometheus")


def alerts(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when alerts have no recipient, or one whose channel is not declared."""
    declared, channels = inventory.monitoring.alerts, inventory.channels
    if declared is None:
        return
    if declared.telegram_chat is None and declared.feishu_chat is None and declared.feishu_webhook is None:
        yield InventoryFinding(
            (ALERTS,),
            "`monitoring.alerts` has no recipient",
            "add `telegram_chat:`, `feishu_chat:` or `feishu_webhook:`",
        )
    for name, chat, channel in (
        ("telegram_chat", declared.telegram_chat, channels.telegram),
        ("feishu_chat", declared.feishu_chat, channels.feishu),
    ):
        platform = name.removesuffix("_chat")
        if chat is not None and channel is None:
            yield InventoryFinding(
                ((*ALERTS, name),),
                f"alerts cannot be sent to this chat: there is no `channels.{platform}`",
                f"declare `channels.{platform}`, or remove this line",
                (("channels", platform),),
            )
    if declared.feishu_webhook_secret is not None and declared.feishu_webhook is None:
        yield InventoryFinding(
            ((*ALERTS, "feishu_webhook_secret"),),
            "this secret belongs to a custom bot, but `feishu_webhook` is missing",
            "add the address of the bot as `feishu_webhook:`, or remove this line",
        )


def grafana(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when Grafana's package cannot be verified."""
    declared = inventory.monitoring.grafana
    if declared is None:
        return
    if declared.key is None and declared.package is None:
        yield InventoryFinding(
            (GRAFANA,),
            "packages of Grafana's repository cannot be verified without its key",
            "download gpg.key of the repository and write its path as `key:`, or give a .deb as `package:`",
            ((*GRAFANA, "key"), (*GRAFANA, "package")),
        )


RULES: tuple[InventoryRule, ...] = (one_host, intervals, alerts, grafana)
