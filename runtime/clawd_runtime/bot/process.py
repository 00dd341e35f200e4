"""The life of the bot's process: starts, serves, tells systemd, and ends in order."""

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

from clawd_runtime.bot.app import Bot
from clawd_runtime.bot.settings import Listen
from clawd_runtime.errors import SettingsError, StoreError
from clawd_runtime.notify import notify, watchdog_seconds

log = logging.getLogger(__name__)

# Open connections end by themselves when the bot has stopped; these seconds are for those that do not.
CONNECTION_GRACE = 26
BACKLOG = 1024
# Longer than nginx keeps idle connections to us (60 s): only who sends may close without a request lost.
IDLE_CONNECTION_SECONDS = 75


@dataclass(frozen=True, slots=True)
class Listener:
    """A bound socket, and the TLS that clients have to speak there; `None` for plain HTTP."""

    socket: socket.socket
    tls: ssl.SSLContext | None = None


def listen_on(place: Listen) -> socket.socket:
    """A bound socket. Raises `SettingsError` when the place is taken or not ours."""
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


async def serve(bot: Bot, listeners: Sequence[Listener]) -> None:
    """Run the bot until SIGTERM or SIGINT, with one HTTP server for each listener."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    application = bot.http_application()
    servers = [_server(application, listener.tls) for listener in listeners]
    watching = asyncio.create_task(_tell_watchdog(bot))
    try:
        # What came earlier is taken up first, or a new message would be answered before an older one.
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
    ending: asyncio.Event, bot: Bot, servers: Sequence[uvicorn.Server], listeners: Sequence[Listener]
) -> None:
    serving = [
        asyncio.create_task(server.serve(sockets=[listener.socket]))
        for server, listener in zip(servers, listeners, strict=True)
    ]
    asked_to_end = asyncio.create_task(ending.wait())
    try:
        for listener in listeners:
            host, port = listener.socket.getsockname()[:2]
            log.info("listening on %s:%d%s", host, port, " with TLS" if listener.tls else "")
        notify("READY=1", "STATUS=answering")
        await asyncio.wait((*serving, asked_to_end), return_when=asyncio.FIRST_COMPLETED)
        notify("STOPPING=1", "STATUS=finishing answers")
        log.info("stopping: what is not finished in time is taken up at the next start")
    finally:
        asked_to_end.cancel()
        for server in servers:
            server.should_exit = True
        await bot.stop()
        await asyncio.gather(*serving)


async def _tell_watchdog(bot: Bot) -> None:
    """Reassure systemd as long as event loop and database thread are alive, be the disk ever so full."""
    seconds = watchdog_seconds()
    while seconds is not None:
        with suppress(StoreError):
            await bot.store.ping()
        notify("WATCHDOG=1")
        await asyncio.sleep(seconds / 3)


class _Server(uvicorn.Server):
    """Leaves signals to the process, whose exit code uvicorn would else make that of a killed one."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
