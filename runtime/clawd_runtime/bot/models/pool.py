"""The models that a conversation can be answered by, in order, and the places at them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from clawd_runtime.bot.models.guarded import GuardedModel
from clawd_runtime.bot.models.remote_policy import Asker

# How long a message waits while no model answers, counted from the first of their failures. An engine that
# failed restarts within it; a message that arrives later is refused immediately.
PATIENCE_SECONDS = 40.0
# Every message waits this long for the probe that its arrival causes.
LEAST_PATIENCE = 2.0
# Waits for the result of the only request to a half-open model are repeated as long as it is made.
TRIAL_SECONDS = 30.0
# A large model on a slow disk takes minutes to load. As long as its engine reports that, it has not failed.
LOADING_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class ModelOrder:
    """The models for one conversation, in the order of preference, and the version of the route."""

    models: tuple[GuardedModel, ...]
    version: int = 0


@dataclass(slots=True)
class ModelPlace:
    """A held place at a model, and the ticket of its next request."""

    model: GuardedModel
    ticket: int


class ModelPool:
    """The models; `select` orders them for a conversation."""

    def __init__(
        self, models: Sequence[GuardedModel], select: Callable[[Asker], ModelOrder] | None = None
    ) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._select = select or (lambda asker: ModelOrder(self.models))
        self.models: tuple[GuardedModel, ...] = ()
        self.use(models)

    def use(self, models: Sequence[GuardedModel]) -> None:
        """Use these models from now on."""
        self.models = tuple(models)
        for model in models:
            model.on_change = self._wake

    def selection(self, asker: Asker) -> ModelOrder:
        """Return the models that may answer `asker`."""
        chosen = self._select(asker)
        allowed = tuple(model for model in chosen.models if model.policy.allows(asker))
        return ModelOrder(allowed, chosen.version)

    def is_free(self, asker: Asker) -> bool:
        """Return whether a place is free at the model that would be asked first."""
        usable = (model for model in self.selection(asker).models if model.breaker.admits)
        model = next(usable, None)
        return model is not None and model.gate.is_free

    def ahead(self, asker: Asker) -> int:
        """Return how many messages are ahead of a waiting one."""
        return max((model.gate.ahead(asker.number) for model in self.models), default=0)

    @asynccontextmanager
    async def place(
        self, asker: Asker, models: Sequence[GuardedModel], spent: Container[str], *, wait: bool
    ) -> AsyncIterator[ModelPlace | None]:
        """Hold a place at the first of `models` that admits a request and is not `spent`.

        Without one, None: at once, or with `wait` when there is no hope left that one will answer soon.
        """
        left = [model for model in models if model.name not in spent]
        arrived = _now()
        while True:
            usable = next((model for model in left if model.breaker.admits), None)
            if usable is None:
                if not wait or not await self._admitted_after_waiting(left, arrived):
                    yield None
                    return
                continue
            async with AsyncExitStack() as held:
                half_open = usable.breaker.state == "half-open"
                ticket = usable.breaker.begin() if half_open else None
                if ticket is not None:
                    held.callback(usable.breaker.abandoned, ticket)
                who = (asker.conversation.channel, asker.user)
                granted = await held.enter_async_context(usable.gate.place(asker.number, who))
                if ticket is None and granted and usable.breaker.admits:
                    ticket = usable.breaker.begin()
                    held.callback(usable.breaker.abandoned, ticket)
                if granted and ticket is not None:
                    yield ModelPlace(usable, ticket)
                    return

    async def _admitted_after_waiting(self, models: Sequence[GuardedModel], arrived: float) -> bool:
        """Wait until one of `models` admits a request; return False when patience has ended."""
        for model in models:
            model.ask_state()
        while not any(model.breaker.admits for model in models):
            until = max((_patience_ends(model, arrived) for model in models), default=0.0)
            if _now() >= until:
                return False
            await self._changed(until)
        return True

    async def _changed(self, until: float) -> None:
        change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[change] = None
        try:
            async with asyncio.timeout_at(until):
                await change
        except TimeoutError:
            pass
        finally:
            del self._waiting[change]

    def _wake(self) -> None:
        for change in tuple(self._waiting):
            if not change.done():
                change.set_result(None)


def _patience_ends(model: GuardedModel, arrived: float) -> float:
    if model.breaker.state == "half-open":
        return _now() + TRIAL_SECONDS
    since = model.breaker.down_since
    began = arrived if since is None else since
    if model.health == "loading":
        return began + LOADING_SECONDS
    return max(began + PATIENCE_SECONDS, arrived + LEAST_PATIENCE)


def _now() -> float:
    return asyncio.get_running_loop().time()
