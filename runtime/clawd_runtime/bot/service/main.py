"""The command `clawd-bot`.

Exit codes: 0 stopped by a signal, 1 the database cannot be used, 2 wrong command line, settings or
credentials.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from clawd_runtime import logs
from clawd_runtime.bot.channels.registry import channel_class
from clawd_runtime.bot.credentials import Credentials, read_credentials
from clawd_runtime.bot.masking import mask_secrets
from clawd_runtime.bot.service import internal_tls
from clawd_runtime.bot.service.app import BotService
from clawd_runtime.bot.service.process import BoundSocket, listen_on, serve
from clawd_runtime.bot.service.rejections import OnceAMinute
from clawd_runtime.bot.settings import BotSettings, load_settings
from clawd_runtime.bot.store.backends.database import open_database
from clawd_runtime.errors import SettingsError, StoreError

log = logging.getLogger("clawd.bot")

OPTIONAL = ("database-password", "classifier-api-key")
OF_MODELS = "model-*-api-key"
"""Credentials of models, whose names the table of routes has."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT and return the exit code."""
    parser = argparse.ArgumentParser(prog="clawd-bot", description="Answer messages on chat platforms.")
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="path of bot.json")
    options = parser.parse_args(arguments)
    logs.configure()
    # These log addresses (Telegram's contain the token) or what our own log contains already.
    for noisy in ("httpx", "httpcore", "uvicorn", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It warns of every request that is not HTTP: foreign clients must not be able to fill the log.
    logging.getLogger("uvicorn.error").addFilter(OnceAMinute())
    try:
        settings = load_settings(options.config)
        credentials = credentials_for(settings)
        mask_secrets(credentials.values())
        with ExitStack() as closing:
            listeners = tuple(_listeners(settings, closing))
            asyncio.run(_run(settings, credentials, listeners))
    except SettingsError as fault:
        log.error("%s", fault)
        return 2
    except StoreError as fault:
        log.error("%s", fault)
        return 1
    return 0


def credentials_for(settings: BotSettings) -> Credentials:
    """Return the credentials that these settings require, from `$CREDENTIALS_DIRECTORY`.

    Raise `SettingsError` if one is missing or invalid.
    """
    required = [
        name
        for channel, part in settings.channels.items()
        for name in channel_class(channel).credentials(part)
    ]
    if settings.internal:
        required += internal_tls.CREDENTIALS
    directory = _credentials_directory()
    of_models = sorted(path.name for path in directory.glob(OF_MODELS)) if directory else []
    return read_credentials(directory, required, (*OPTIONAL, *of_models))


def _credentials_directory() -> Path | None:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None


def _listeners(settings: BotSettings, closing: ExitStack) -> Iterator[BoundSocket]:
    """Yield the listeners of the settings, bound until `closing` exits; raise `SettingsError` on failure."""
    context = None
    if settings.internal:
        directory = _credentials_directory()
        assert directory is not None, "credentials_for has read the credentials from it"
        context = internal_tls.server_context(directory)
    yield BoundSocket(closing.enter_context(listen_on(settings.listen)))
    if settings.internal:
        yield BoundSocket(closing.enter_context(listen_on(settings.internal)), context)
    for place in settings.further:
        yield BoundSocket(closing.enter_context(listen_on(place)), context if place.tls else None)


async def _run(settings: BotSettings, credentials: Credentials, listeners: Sequence[BoundSocket]) -> None:
    database = open_database(settings.database, credentials.get("database-password"))
    try:
        bot = BotService(settings, credentials, database)
    except SettingsError:
        database.close()
        raise
    await serve(bot, listeners)
