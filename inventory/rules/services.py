"""Rules for the models, the bot and the channels of an inventory. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from inventory.model import Inventory
from inventory.model_files.context_budget import shortage
from inventory.model_files.tokens import TokenCount, count
from inventory.reading.source import KeyPath
from inventory.rule_findings import EVERY_ROLE, InventoryFinding, InventoryRule, at_least
from inventory.rules.secrets import OFFICIAL_TELEGRAM
from inventory.sections.models import LocalModel
from inventory.types import MODEL_NAME
from inventory.values import check_file_name

TELEGRAM_WEBHOOK_PORTS = (443, 80, 88, 8443)  # https://core.telegram.org/bots/api#setwebhook
LEAST_ENGINE_MEMORY = "256M"
LEAST_BOT_MEMORY = "96M"
MOST_MESSAGES_PER_MINUTE = 30


def models(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when a model cannot be loaded or leaves no room for a reply."""
    declared = inventory.models.named()
    yield from _names(inventory)
    for name, model in declared.items():
        path: KeyPath = ("models", name)
        if isinstance(model, LocalModel):
            yield from _local_model(path, model)
        # Local files are checked later, with their own tokenizer, in `inventory.local_files.contents`.
        known = isinstance(model, LocalModel) and model.url is None
        prompt = TokenCount(0, 0) if known else count(inventory.bot.system_prompt, None)
        yield from shortage(path, model, prompt, inventory.bot.max_reply_tokens)


def _names(inventory: Inventory) -> Iterator[InventoryFinding]:
    local = list(inventory.models.local())
    if len(local) > 1 and inventory.runtime.run_with == "docker":
        first, second, *_ = (f"models.{name}" for name in local)
        yield InventoryFinding(
            (("models", local[1], "engine"), ("runtime", "run_with")),
            f"`{first}` and `{second}` are both llama-cpp models, but in containers a host runs one engine",
            f"write `runtime.run_with: systemd`, make one of them `engine: openai-compatible`, or remove "
            f"`{second}`",
        )
    for name in inventory.models.further:
        if not re.fullmatch(MODEL_NAME, name):
            yield InventoryFinding(
                (("models", name),),
                f"`{name}` is not a name of a model",
                "use 1 to 32 of a-z 0-9 -, not - at the ends",
            )


def routes(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when a share is of no model, or shares are more than there is."""
    shares = inventory.routes.shares
    for name in shares:
        if name not in inventory.models.further:
            of = "has no share of its own" if name in ("default", "fallback") else "is not in `models`"
            yield InventoryFinding(
                (("routes", "shares", name),),
                f"`{name}` {of}",
                "name a model of `models` that is neither `default` nor `fallback`",
                (("models",),),
            )
    if (total := sum(shares.values())) > 100:
        yield InventoryFinding(
            (("routes", "shares"),), f"the shares are {total} % together", "lower them to at most 100"
        )


def _local_model(path: KeyPath, model: LocalModel) -> Iterator[InventoryFinding]:
    if model.path.suffix != ".gguf":
        yield InventoryFinding(
            ((*path, "path"),),
            f"`{model.path.name}` does not end in .gguf",
            "write the path of a GGUF file; convert other formats first",
        )
    elif (verdict := check_file_name(model.path.name)) is not None:
        yield InventoryFinding(((*path, "path"),), *verdict)
    if model.url is not None and model.sha256 is None:
        yield InventoryFinding(
            ((*path, "url"),),
            "a model with `url` needs a digest to verify the download",
            "add `sha256:` as printed by `sha256sum`",
            ((*path, "sha256"),),
        )
    yield from at_least((*path, "memory_max"), model.memory_max, LEAST_ENGINE_MEMORY, "the engine")


def bot(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when the bot has too little memory to start, or a high rate limit without a reason."""
    yield from at_least(("bot", "memory_max"), inventory.bot.memory_max, LEAST_BOT_MEMORY, "the bot")
    rate, reason = inventory.bot.rate_limit_per_minute, inventory.bot.rate_limit_reason
    if rate > MOST_MESSAGES_PER_MINUTE and reason is None:
        yield InventoryFinding(
            (("bot", "rate_limit_per_minute"),),
            f"{rate} messages a minute are more than {MOST_MESSAGES_PER_MINUTE}, without a reason",
            "add `bot.rate_limit_reason:` with why a user may send so many, or write at most "
            f"{MOST_MESSAGES_PER_MINUTE}",
            (("bot", "rate_limit_reason"),),
        )


def is_private(url: str) -> bool:
    """Return whether a URL names a private address, as a stand-in of a platform has."""
    try:
        return ip_address(urlsplit(str(url)).hostname or "").is_private
    except ValueError:
        return False


def access(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding for access that is undeclared or open to everyone, and for quotas of no model."""
    declared = inventory.access.model_fields_set
    for channel, default in (("telegram", "pairing"), ("feishu", "pairing")):
        platform = getattr(inventory.channels, channel)
        if platform is None:
            continue
        opening = getattr(inventory.access, channel)
        if opening == "open" and not is_private(platform.api_base):
            yield InventoryFinding(
                (("access", channel),),
                f"everyone on {channel.capitalize()} may use the bot",
                f"write `{channel}: {default}` if not everyone should",
                is_warning=True,
            )
        elif channel not in declared and not inventory.access.users:
            yield InventoryFinding(
                (("channels", channel),),
                f"`access` is not declared: on {channel.capitalize()}, new people get a pairing code, and no "
                "one has the role to confirm it in chat",
                f"declare `access.users` with an owner or admin, or `access.{channel}`; the bot "
                "shows new people their id",
                (("access", channel), ("access", "users")),
                is_warning=True,
            )
    for name in inventory.access.quotas.models.keys() - inventory.models.named().keys():
        yield InventoryFinding(
            (("access", "quotas", "models", name),),
            f"no model is called `{name}`",
            f"use one of {', '.join(inventory.models.named())}",
            (("models",),),
        )


def channels(inventory: Inventory) -> Iterator[InventoryFinding]:
    """Yield a finding when Telegram cannot work as declared."""
    telegram = inventory.channels.telegram
    if telegram is None:
        return
    path: KeyPath = ("channels", "telegram")
    if telegram.mode == "polling":
        pollers = list(inventory.with_role("runtime"))
        # Bots that share a database elect one that polls for all.
        if len(pollers) > 1 and inventory.database is None:
            yield InventoryFinding(
                ((*path, "mode"),),
                f"{len(pollers)} runtime hosts that share no database would poll Telegram, "
                "which answers only one of them",
                "add a section `database` and the role database to one host, write `mode: webhook`, "
                "or give only one host the role runtime",
                (EVERY_ROLE, ("database",)),
            )
        return
    if telegram.secret_token is None:
        yield InventoryFinding(
            (path,),
            "`channels.telegram` lacks `secret_token`: anyone could send messages to the webhook",
            "add `secret_token:` (16 to 256 of A-Z a-z 0-9 _ -), or write `mode: polling`",
            ((*path, "mode"), (*path, "secret_token")),
        )
    runtimes, fronts = inventory.with_role("runtime"), inventory.with_role("nginx")
    if inventory.tls.mode == "self-signed" and runtimes and fronts and not runtimes.keys() & fronts.keys():
        yield InventoryFinding(
            (("tls", "mode"), path),
            "no host has both roles runtime and nginx: no bot could send nginx's certificate to Telegram",
            "write `tls.mode: own-ca` or `acme`, or give one host both roles",
            (EVERY_ROLE, (*path, "mode")),
        )
    port = inventory.nginx.https_port
    if telegram.api_base.rstrip("/") == OFFICIAL_TELEGRAM and port not in TELEGRAM_WEBHOOK_PORTS:
        yield InventoryFinding(
            (("nginx", "https_port"),),
            f"Telegram does not call webhooks on port {port}",
            "use 443, 80, 88 or 8443, or write `mode: polling` for Telegram",
            ((*path, "mode"), (*path, "api_base")),
        )


RULES: tuple[InventoryRule, ...] = (models, routes, bot, access, channels)
