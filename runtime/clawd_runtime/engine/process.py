"""The engine's process: it listens at once, loads the model in the background, and shuts down gracefully."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from clawd_runtime.engine.batching.computer import Opened
from clawd_runtime.engine.http.api import create_app
from clawd_runtime.engine.http.key import read_key
from clawd_runtime.engine.service import Engine
from clawd_runtime.engine.settings import EngineSettings
from clawd_runtime.errors import RuntimeFault
from clawd_runtime.notify import notify, watchdog_seconds

_log = logging.getLogger("clawd.engine")

# Seconds after SIGTERM in which running answers may complete, and seconds in which the clients of the others
# can then read the error.
DRAIN_SECONDS = 20
LAST_WORDS_SECONDS = 5


class EngineProcess:
    """A process that serves the model of `settings` on `listener`, a bound socket."""

    def __init__(
        self,
        settings: EngineSettings,
        listener: socket.socket,
        open_model: Callable[[EngineSettings], Opened],
    ) -> None:
        self._engine = Engine(settings, on_fault=self._fault, open_model=open_model)
        self._listener = listener
        self._exit_code = 0
        self._server = _Server(
            uvicorn.Config(
                create_app(self._engine, _key(settings)),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=DRAIN_SECONDS + LAST_WORDS_SECONDS,
            )
        )

    async def run(self) -> int:
        """Serve until a signal or an internal error and return the exit code."""
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._asked_to_end, signal.Signals(number).name)
        _log.info("listening on %s", _address(self._listener))
        loading = asyncio.create_task(self._load())
        watching = asyncio.create_task(self._tell_watchdog())
        try:
            await self._server.serve(sockets=[self._listener])
            await loading
        finally:
            watching.cancel()
            await asyncio.to_thread(self._engine.close)
        _log.info("stopped")
        return self._exit_code

    async def _load(self) -> None:
        notify(f"STATUS=loading {self._engine.settings.model}")
        try:
            await asyncio.to_thread(self._engine.load)
        except RuntimeFault as fault:
            _log.error("%s", fault)
            self._end(1)
        except Exception:
            _log.exception("internal error: loading the model failed")
            self._end(1)
        else:
            notify("READY=1", f"STATUS=serving {self._engine.settings.model_name}")

    async def _tell_watchdog(self) -> None:
        """Send the watchdog's keep-alive to systemd as long as answers make progress."""
        seconds = watchdog_seconds()
        while seconds is not None:
            if not self._engine.stalled(seconds):
                notify("WATCHDOG=1")
            await asyncio.sleep(seconds / 3)

    def _asked_to_end(self, signal_name: str) -> None:
        _log.info("%s received: refusing new requests, draining for up to %d s", signal_name, DRAIN_SECONDS)
        notify("STOPPING=1")
        self._loop.call_later(DRAIN_SECONDS, self._give_up)
        self._end(0)

    def _give_up(self) -> None:
        """Fail the incomplete answers, so that their clients receive an error."""
        _log.warning("drain timed out after %d s: failing the answers that are not complete", DRAIN_SECONDS)
        self._loop.run_in_executor(None, self._engine.close)

    def _fault(self, fault: BaseException) -> None:
        """End the process, called from the batcher's thread, so that systemd starts a new one."""
        self._loop.call_soon_threadsafe(self._end, 1)

    def _end(self, exit_code: int) -> None:
        self._exit_code = max(self._exit_code, exit_code)
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """A server that leaves signals to the process; uvicorn would exit with the code of a killed process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _key(settings: EngineSettings) -> str | None:
    if settings.api_key_file is None:
        return None
    return read_key(Path(os.environ.get("CREDENTIALS_DIRECTORY", "/"), settings.api_key_file))


def _address(listener: socket.socket) -> str:
    name = listener.getsockname()
    return name if isinstance(name, str) else f"http://{name[0]}:{name[1]}"
