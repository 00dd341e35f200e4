"""Readiness of the bot to answer users, which `/readyz` reports within a second."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from clawd_runtime.errors import StoreError

log = logging.getLogger(__name__)

WITHIN_SECONDS = 0.8
"""A check that takes longer has failed; it continues, and its result counts for the next request."""
KEEP_ALIVE_SECONDS = 5.0
KEEP_DEAD_SECONDS = 1.0

ReadinessCheck = Callable[[], Awaitable[bool]]


class Probe:
    """A check that runs once at a time for all callers, and whose result is cached for some seconds."""

    def __init__(self, check: ReadinessCheck, *, keep: float = 0.0, keep_failure: float = 0.0) -> None:
        self._check = check
        self._keep = {True: keep, False: keep_failure}
        self._running: asyncio.Task[bool] | None = None
        self._known_until = -1.0

    def ask(self) -> asyncio.Task[bool]:
        """Return the running check, a recent one whose result is still valid, or a new one."""
        running = self._running
        if running is None or (running.done() and asyncio.get_running_loop().time() >= self._known_until):
            running = self._running = asyncio.create_task(self._made())
        return running

    async def _made(self) -> bool:
        result = await self._check()
        self._known_until = asyncio.get_running_loop().time() + self._keep[result]
        return result


class Readiness:
    """The checks of a bot.

    `store` writes to the database: a read-only one cannot store messages. `models` returns the probes of the
    models' servers; one that responds is enough, so a fallback that hangs or is down does not matter while
    the default works.
    """

    def __init__(
        self, store: Callable[[], Awaitable[None]], models: Callable[[], Sequence[ReadinessCheck]]
    ) -> None:
        self._store_writes = store
        self._store = Probe(self._writes)
        self._models = models
        self._probes: dict[ReadinessCheck, Probe] = {}
        self._problem = ""

    async def checks(self) -> dict[str, bool]:
        """Return the state of the database and of the models, true if usable."""
        database, engine = await asyncio.gather(_any((self._store,)), _any(self._of_models()))
        return {"database": database, "engine": engine}

    def _of_models(self) -> Sequence[Probe]:
        """Return a probe for each present model, the former one if there is one."""
        self._probes = {
            model: self._probes.get(model)
            or Probe(model, keep=KEEP_ALIVE_SECONDS, keep_failure=KEEP_DEAD_SECONDS)
            for model in self._models()
        }
        return tuple(self._probes.values())

    async def _writes(self) -> bool:
        try:
            await self._store_writes()
        except StoreError as fault:
            if str(fault) != self._problem:
                log.error("not ready: %s", fault)
            self._problem = str(fault)
            return False
        self._problem = ""
        return True


async def _any(probes: Sequence[Probe]) -> bool:
    """Return whether one of the checks succeeds in time; the others continue."""
    loop = asyncio.get_running_loop()
    until = loop.time() + WITHIN_SECONDS
    waiting = {probe.ask() for probe in probes}
    while waiting:
        left = max(0.0, until - loop.time())
        done, waiting = await asyncio.wait(waiting, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if any(task.exception() is None and task.result() for task in done if not task.cancelled()):
            return True
        if not done:
            return False
    return False
