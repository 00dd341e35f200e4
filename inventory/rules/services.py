"""What must hold between the models, the bot and the channels of an inventory. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from inventory.finding import EVERY_ROLE, Finding, Rule, at_least, from_verdict
from inventory.mistakes import dotted
from inventory.model import Inventory, LocalModel, RemoteModel
from inventory.source import KeyPath
from inventory.values import check_server

OFFICIAL_TELEGRAM = "https://api.telegram.org"
TELEGRAM_WEBHOOK_PORTS = (443, 80, 88, 8443)  # https://core.telegram.org/bots/api#setwebhook
# The bot refuses to start when less than this is left for a question beside the longest reply.
SHORTEST_PROMPT_TOKENS = 128
LEAST_ENGINE_MEMORY = "256M"
LEAST_BOT_MEMORY = "96M"


def models(inventory: Inventory) -> Iterator[Finding]:
    """Models can be loaded and leave room for a reply."""
    declared = {"default": inventory.models.default, "fallback": inventory.models.fallback}
    if all(isinstance(model, LocalModel) for model in declared.values()):
        yield Finding(
            (("models", "fallback", "engine"), ("models", "default", "engine")),
            "`models.default` and `models.fallback` are both llama-cpp models, but a host runs one engine",
            "make one of them `engine: openai-compatible`, or leave the fallback out",
        )
    for name, model in declared.items():
        path: KeyPath = ("models", name)
        if isinstance(model, RemoteModel):
            yield from from_verdict((*path, "endpoint"), check_server(model.endpoint, "/chat/completions"))
        elif isinstance(model, LocalModel):
            yield from _local_model(path, model)
        if model is not None:
            yield from _room(path, model.context_size, inventory.bot.max_reply_tokens)


def _local_model(path: KeyPath, model: LocalModel) -> Iterator[Finding]:
    if model.path.suffix != ".gguf":
        yield Finding(
            ((*path, "path"),),
            f"`{model.path.name}` does not end in .gguf",
            "name a GGUF file; convert others first",
        )
    if model.url is not None:
        yield from from_verdict((*path, "url"), check_server(model.url))
        if model.sha256 is None:
            yield Finding(
                ((*path, "url"),),
                "a model fetched by `url` needs a digest, so that nothing else is served",
                "add `sha256:` as `sha256sum` prints it",
                ((*path, "sha256"),),
            )
    yield from at_least((*path, "memory_max"), model.memory_max, LEAST_ENGINE_MEMORY, "the engine")


def _room(path: KeyPath, context: int, reply: int) -> Iterator[Finding]:
    least = reply + SHORTEST_PROMPT_TOKENS
    if context < least:
        yield Finding(
            (("bot", "max_reply_tokens"), (*path, "context_size")),
            f"a reply of {reply} tokens leaves no room for a question in a context of {context}",
            f"lower `bot.max_reply_tokens`, or raise `{dotted(path)}.context_size` to at least {least}",
        )


def bot(inventory: Inventory) -> Iterator[Finding]:
    """The bot has enough memory to start."""
    yield from at_least(("bot", "memory_max"), inventory.bot.memory_max, LEAST_BOT_MEMORY, "the bot")


def channels(inventory: Inventory) -> Iterator[Finding]:
    """Telegram and Feishu can work as declared."""
    if feishu := inventory.channels.feishu:
        yield from from_verdict(("channels", "feishu", "api_base"), check_server(feishu.api_base))
    telegram = inventory.channels.telegram
    if telegram is None:
        return
    path: KeyPath = ("channels", "telegram")
    yield from from_verdict((*path, "api_base"), check_server(telegram.api_base))
    if telegram.mode == "polling":
        pollers = list(inventory.with_role("runtime"))
        if len(pollers) > 1:
            yield Finding(
                ((*path, "mode"),),
                f"{len(pollers)} runtime hosts would poll Telegram, which answers one of them only",
                "write `mode: webhook`, or give one host alone the role runtime",
                (EVERY_ROLE,),
            )
        return
    if telegram.secret_token is None:
        yield Finding(
            (path,),
            "`channels.telegram` lacks `secret_token`, so anyone could write to the webhook",
            "add `secret_token:` (1 to 256 of A-Z a-z 0-9 _ -), or write `mode: polling`",
            ((*path, "mode"), (*path, "secret_token")),
        )
    runtimes, fronts = inventory.with_role("runtime"), inventory.with_role("nginx")
    if inventory.tls.mode == "self-signed" and runtimes and fronts and not runtimes.keys() & fronts.keys():
        yield Finding(
            (("tls", "mode"), path),
            "no host has both runtime and nginx, so no bot can give Telegram nginx's own certificate",
            "write `tls.mode: own-ca` or `acme`, or give one host both roles",
            (EVERY_ROLE, (*path, "mode")),
        )
    port = inventory.nginx.https_port
    if telegram.api_base.rstrip("/") == OFFICIAL_TELEGRAM and port not in TELEGRAM_WEBHOOK_PORTS:
        yield Finding(
            (("nginx", "https_port"),),
            f"Telegram calls no webhook on port {port}",
            "use 443, 80, 88 or 8443, or write `mode: polling` for Telegram",
            ((*path, "mode"), (*path, "api_base")),
        )


def secret_values(inventory: Inventory) -> Iterator[Finding]:
    """Secrets have the form that their users demand. Findings never contain a part of one."""
    telegram, console = inventory.channels.telegram, inventory.channels.console
    if telegram and telegram.secret_token is not None:
        token = telegram.secret_token.get_secret_value()
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", token):
            yield Finding(
                (("channels", "telegram", "secret_token"),),
                "Telegram does not accept this secret token",
                "use 1 to 256 of A-Z a-z 0-9 _ and -",
            )
    if telegram:
        token = telegram.token.get_secret_value()
        # A server of one's own may hand out shorter ones.
        least = 20 if telegram.api_base.rstrip("/") == OFFICIAL_TELEGRAM else 1
        if not re.fullmatch(rf"[0-9]+:[A-Za-z0-9_-]{{{least},}}", token):
            yield Finding(
                (("channels", "telegram", "token"),),
                "this is not a token of a Telegram bot",
                "copy it from BotFather: digits, a colon, and about 35 more characters",
                (("channels", "telegram", "api_base"),),
            )
    if console:
        length = len(console.jwt_secret.get_secret_value().encode())
        if length < 32:
            yield Finding(
                (("channels", "console", "jwt_secret"),),
                f"the secret has {length} bytes; HS256 needs at least 32 (RFC 7518, section 3.2)",
                "make one with `openssl rand -base64 48`",
            )


RULES: tuple[Rule, ...] = (models, bot, channels)
