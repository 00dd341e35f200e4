"""The life of the engine's process: it listens at once, loads in the background, and ends in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from clawd_runtime.engine.api import create_app
from clawd_runtime.engine.service import Engine
from clawd_runtime.engine.settings import EngineSettings
from clawd_runtime.errors import RuntimeFault
from clawd_runtime.notify import notify, watchdog_seconds

_log = logging.getLogger("clawd.engine")

# How long answers that are being computed may go on after SIGTERM, in seconds; and how long their clients
# then have to read that they are given up.
DRAIN_SECONDS = 20
LAST_WORDS_SECONDS = 5


class EngineProcess:
    """Serves `settings`' model on `listener`, a bound socket."""

    def __init__(self, settings: EngineSettings, listener: socket.socket) -> None:
        self._engine = Engine(settings, on_fault=self._fault)
        self._listener = listener
        self._exit_code = 0
        self._server = _Server(
            uvicorn.Config(
                create_app(self._engine),
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=DRAIN_SECONDS + LAST_WORDS_SECONDS,
            )
        )

    async def run(self) -> int:
        """Serve until a signal or a fault; the exit code."""
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
        _log.info("ended")
        return self._exit_code

    async def _load(self) -> None:
        notify(f"STATUS=loading {self._engine.settings.model}")
        try:
            await asyncio.to_thread(self._engine.load)
        except RuntimeFault as fault:
            _log.error("%s", fault)
            self._end(1)
        except Exception:
            _log.exception("loading the model failed")
            self._end(1)
        else:
            notify("READY=1", f"STATUS=serving {self._engine.settings.model_name}")

    async def _tell_watchdog(self) -> None:
        """Reassure systemd as long as answers make progress."""
        seconds = watchdog_seconds()
        while seconds is not None:
            if not self._engine.stalled(seconds):
                notify("WATCHDOG=1")
            await asyncio.sleep(seconds / 3)

    def _asked_to_end(self, signal_name: str) -> None:
        _log.info("%s: no new requests; running answers have %d s", signal_name, DRAIN_SECONDS)
        notify("STOPPING=1")
        self._loop.call_later(DRAIN_SECONDS, self._give_up)
        self._end(0)

    def _give_up(self) -> None:
        """Fail what is still not complete, so that its clients are told."""
        _log.warning("answers that are not complete after %d s are given up", DRAIN_SECONDS)
        self._loop.run_in_executor(None, self._engine.close)

    def _fault(self, fault: BaseException) -> None:
        """Called from the batcher's thread: systemd starts a new process, this one cannot go on."""
        self._loop.call_soon_threadsafe(self._end, 1)

    def _end(self, exit_code: int) -> None:
        self._exit_code = max(self._exit_code, exit_code)
        self._server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves signals to the process, whose exit code uvicorn would else make that of a killed one."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _address(listener: socket.socket) -> str:
    name = listener.getsockname()
    return name if isinstance(name, str) else f"http://{name[0]}:{name[1]}"
