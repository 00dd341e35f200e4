"""A model with what protects it and those who wait for it: a gate and a circuit breaker of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from clawd_runtime.bot.models.breaker import BreakerRules, BreakerState, CircuitBreaker
from clawd_runtime.bot.models.completion import Health, ModelClient
from clawd_runtime.bot.models.failures import (
    ContentFiltered,
    ContextTooLong,
    ModelFailure,
    ModelHung,
    ModelRefused,
    ModelUnavailable,
    NoAnswerReached,
    RequestRejected,
)
from clawd_runtime.bot.models.gate import QueueSemaphore
from clawd_runtime.bot.models.remote_policy import EVERYTHING, RemotePolicy
from clawd_runtime.bot.service.metrics import ModelState

log = logging.getLogger(__name__)

# The engine on this host is probed often: it restarts within seconds, and a probe costs nothing.
RULES_LOCAL = BreakerRules(longest_wait=3.0)
RULES_REMOTE = BreakerRules(longest_wait=30.0)
# How often it is asked whether it still loads. That is no failure, so the time does not grow.
ASK_LOADING_EVERY = 2.0
USABLE: Mapping[BreakerState, float] = {"closed": 1.0, "half-open": 0.5, "open": 0.0}
# The server works, although it did not answer this request.
ITS_REQUEST = (ContextTooLong, RequestRejected, ContentFiltered, NoAnswerReached)


class GuardedModel:
    """A model that `places` conversations use at once. `on_change`: a request may be admitted now, or none.

    When the breaker opens, all requests that wait at the gate are dismissed, and try another model.
    """

    def __init__(
        self,
        client: ModelClient,
        places: int,
        policy: RemotePolicy = EVERYTHING,
        closing: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._closing = closing
        self.client = client
        self.name = client.name
        self.policy = policy
        self.gate = QueueSemaphore(places)
        self.health: Health = "ready"
        self.on_change: Callable[[], None] = lambda: None
        self.breaker = CircuitBreaker(RULES_LOCAL if client.local else RULES_REMOTE, _now)
        self.breaker.on_change = self._changed
        self._probing: asyncio.Task[None] | None = None
        self._probe_now = asyncio.Event()

    def state(self) -> ModelState:
        """Return its state for the metrics."""
        return ModelState(USABLE[self.breaker.state], self.gate.inside, self.gate.waiting)

    def ask_state(self) -> None:
        """Probe the server soon if it does not answer, because someone waits for it."""
        self._probe_now.set()

    async def failed(self, ticket: int, failure: ModelFailure) -> None:
        """Record a failed request."""
        if isinstance(failure, ITS_REQUEST):
            self.breaker.succeeded(ticket)
            return
        certain = isinstance(failure, ModelRefused)
        if self.client.local and not isinstance(failure, ModelHung):
            self.health = await self.client.health()
            certain = certain or self.health != "ready"
        after = failure.after if isinstance(failure, ModelUnavailable) else None
        self.breaker.failed(ticket, after=after or 0.0, certain=certain)

    async def close(self) -> None:
        """End the probes, and close what only this model used."""
        if self._probing is not None:
            self._probing.cancel()
            await asyncio.gather(self._probing, return_exceptions=True)
        if self._closing is not None:
            await self._closing()

    def _changed(self) -> None:
        log.info("model %s: circuit breaker %s", self.name, self.breaker.state)
        if self.breaker.state == "open":
            self.gate.dismiss()
            if self._probing is None or self._probing.done():
                self._probe_now.clear()
                self._probing = asyncio.create_task(self._probe())
        elif self.breaker.state == "closed":
            self.health = "ready"
        self.on_change()

    async def _probe(self) -> None:
        """Probe the server until it responds, after growing waits; sooner if someone asks."""
        while self.breaker.state == "open":
            await self._until(self.breaker.probe_at)
            if self.breaker.state != "open":
                return
            before, self.health = self.health, await self.client.health()
            if self.health == "loading":
                self.breaker.probe_at = _now() + ASK_LOADING_EVERY
            else:
                self.breaker.probed(responds=self.health == "ready")
            if self.health != before:
                self.on_change()

    async def _until(self, due: float) -> None:
        earliest = _now() + RULES_LOCAL.first_wait
        try:
            async with asyncio.timeout_at(due):
                await self._probe_now.wait()
                await asyncio.sleep(earliest - _now())
        except TimeoutError:
            pass
        self._probe_now.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()
