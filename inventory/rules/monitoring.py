"""What must hold for the section `monitoring` of an inventory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from inventory.finding import EVERY_ROLE, Finding, Rule, at_least
from inventory.model import Inventory
from inventory.source import KeyPath

LEAST_RETENTION = "512M"
SAMPLES_IN_WINDOW = 4
"""Rates of fewer samples miss a scrape that fails."""

HERE: KeyPath = ("monitoring",)
ALERTS: KeyPath = ("monitoring", "alerts")
GRAFANA: KeyPath = ("monitoring", "grafana")


def one_host(inventory: Inventory) -> Iterator[Finding]:
    """One host watches; without one, nobody reads what is declared."""
    watchers = list(inventory.with_role("monitoring"))
    for name in watchers[1:]:
        yield Finding(
            (("hosts", name, "roles"),),
            f"`{name}` and `{watchers[0]}` both have the role monitoring",
            "give it to one host",
            (EVERY_ROLE,),
        )
    if not watchers and (inventory.monitoring.alerts or inventory.monitoring.grafana):
        yield Finding(
            (HERE,),
            "monitoring is declared, but no host has the role monitoring",
            "add `monitoring` to the roles of one, or remove the section",
            (EVERY_ROLE,),
        )


def intervals(inventory: Inventory) -> Iterator[Finding]:
    """A window holds enough measurements, and the disk some of them."""
    monitoring = inventory.monitoring
    least = SAMPLES_IN_WINDOW * monitoring.scrape_interval
    if monitoring.window < least:
        yield Finding(
            ((*HERE, "window"), (*HERE, "scrape_interval")),
            f"a window of {monitoring.window} s has too few measurements, one every "
            f"{monitoring.scrape_interval} s",
            f"write at least {least}, or measure more often",
        )
    yield from at_least((*HERE, "retention_size"), monitoring.retention_size, LEAST_RETENTION, "Prometheus")


def alerts(inventory: Inventory) -> Iterator[Finding]:
    """Somebody can be told, through a channel that is there."""
    declared, channels = inventory.monitoring.alerts, inventory.channels
    if declared is None:
        return
    if declared.telegram_chat is None and declared.feishu_chat is None and declared.feishu_webhook is None:
        yield Finding(
            (ALERTS,),
            "`monitoring.alerts` names nobody to tell",
            "add `telegram_chat:`, `feishu_chat:` or `feishu_webhook:`",
        )
    for name, chat, channel in (
        ("telegram_chat", declared.telegram_chat, channels.telegram),
        ("feishu_chat", declared.feishu_chat, channels.feishu),
    ):
        platform = name.removesuffix("_chat")
        if chat is not None and channel is None:
            yield Finding(
                ((*ALERTS, name),),
                f"there is no `channels.{platform}` to tell this chat through",
                f"declare `channels.{platform}`, or remove this line",
                (("channels", platform),),
            )
    if declared.feishu_webhook_secret is not None and declared.feishu_webhook is None:
        yield Finding(
            ((*ALERTS, "feishu_webhook_secret"),),
            "this is the secret of a custom bot that is not declared",
            "add its address as `feishu_webhook:`, or remove this line",
        )


def grafana(inventory: Inventory) -> Iterator[Finding]:
    """Grafana's package comes from somewhere that can be trusted."""
    declared = inventory.monitoring.grafana
    if declared is None:
        return
    if declared.key is None and declared.package is None:
        yield Finding(
            (GRAFANA,),
            "Grafana's repository has no key to be trusted by",
            "fetch gpg.key of the repository once and name it as `key:`, or give a .deb as `package:`",
            ((*GRAFANA, "key"), (*GRAFANA, "package")),
        )


RULES: tuple[Rule, ...] = (one_host, intervals, alerts, grafana)
