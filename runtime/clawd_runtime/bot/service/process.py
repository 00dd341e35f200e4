"""The bot's process: it starts, serves, notifies systemd, and shuts down gracefully."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette

from clawd_runtime.bot.service.app import BotService
from clawd_runtime.bot.settings import Listen
from clawd_runtime.errors import SettingsError, StoreError
from clawd_runtime.notify import notify, watchdog_seconds

log = logging.getLogger(__name__)

# Seconds after which connections are closed that do not end on their own once the bot has stopped.
CONNECTION_GRACE = 26
BACKLOG = 1024
# Longer than nginx keeps idle connections to the bot (60 s): if the bot closed one first, a request could be
# lost.
IDLE_CONNECTION_SECONDS = 75


@dataclass(frozen=True, slots=True)
class BoundSocket:
    """A bound socket with its TLS context; `None` for plain HTTP."""

    socket: socket.socket
    tls: ssl.SSLContext | None = None


def listen_on(place: Listen) -> socket.socket:
    """Return a bound socket; raise `SettingsError` if the address is in use or not on this host."""
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((place.host, place.port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"cannot listen on {place.host}:{place.port}: {error.strerror}") from None
    listener.listen(BACKLOG)
    return listener


async def serve(bot: BotService, listeners: Sequence[BoundSocket]) -> None:
    """Run the bot until SIGTERM or SIGINT, with one HTTP server for each listener."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    application = bot.http_application()
    servers = [_server(application, listener.tls) for listener in listeners]
    watching = asyncio.create_task(_tell_watchdog(bot))
    try:
        # Unfinished work is queued first, otherwise a new message could be answered before an older one.
        await bot.start()
        await _serve_until(ending, bot, servers, listeners)
    finally:
        watching.cancel()
        await bot.close()
    log.info("stopped")


def _server(application: Starlette, tls: ssl.SSLContext | None) -> uvicorn.Server:
    return _Server(
        uvicorn.Config(
            application,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=IDLE_CONNECTION_SECONDS,
            timeout_graceful_shutdown=CONNECTION_GRACE,
            ssl_context_factory=(lambda *_: tls) if tls else None,
        )
    )


async def _serve_until(
    ending: asyncio.Event,
    bot: BotService,
    servers: Sequence[uvicorn.Server],
    listeners: Sequence[BoundSocket],
) -> None:
    serving = [
        asyncio.create_task(server.serve(sockets=[listener.socket]))
        for server, listener in zip(servers, listeners, strict=True)
    ]
    stop_requested = asyncio.create_task(ending.wait())
    try:
        for listener in listeners:
            host, port = listener.socket.getsockname()[:2]
            log.info("listening on %s:%d%s", host, port, " with TLS" if listener.tls else "")
        notify("READY=1", "STATUS=answering")
        await asyncio.wait((*serving, stop_requested), return_when=asyncio.FIRST_COMPLETED)
        notify("STOPPING=1", "STATUS=finishing answers")
        log.info("stopping: unfinished messages will be resumed at the next start")
    finally:
        stop_requested.cancel()
        for server in servers:
            server.should_exit = True
        await bot.stop()
        await asyncio.gather(*serving)


async def _tell_watchdog(bot: BotService) -> None:
    """Send the watchdog's keep-alive as long as event loop and database thread run, even on a full disk."""
    seconds = watchdog_seconds()
    while seconds is not None:
        with suppress(StoreError):
            await bot.store.ping()
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)


class _Server(uvicorn.Server):
    """A server that leaves signals to the process; uvicorn would exit with the code of a killed process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
