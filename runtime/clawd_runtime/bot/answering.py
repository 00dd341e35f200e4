"""Getting an answer from the models: retries, the fallback, a prompt that fits."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from clawd_runtime.bot.channels.base import Progress
from clawd_runtime.bot.characters import whole_characters
from clawd_runtime.bot.completion import (
    ChatMessage,
    ChatModel,
    ContextTooLong,
    ModelFailure,
    ModelRefused,
    ModelUnavailable,
)
from clawd_runtime.bot.fitting import fit, prompt_budget, token_estimate
from clawd_runtime.bot.metrics import Metrics
from clawd_runtime.bot.store.history import Turn

log = logging.getLogger(__name__)

# Waits before asking the same model again. The last one may just be starting.
WAITS_BEFORE_FALLBACK = (0.5,)
WAITS_OF_LAST = (0.5, 2.0, 5.0, 10.0, 20.0)
# A large model on a slow disk takes minutes to load. As long as its engine says so, that is no failure.
LOADING_SECONDS = 900.0
ASK_LOADING_EVERY = 2.0
LONGEST_WAIT = 30.0
# An answer may take its time, but something of it must come: a first piece, which may wait in the server's
# queue, and then the next. The total is there for a server that never ends.
IDLE_SECONDS = 240.0
ATTEMPT_SECONDS = 1800.0
PATIENCE_SECONDS = 300.0
SHRINK = 0.6

Sleep = Callable[[float], Awaitable[None]]


class Answerer:
    """Asks `models` in order of preference."""

    def __init__(
        self,
        models: Sequence[ChatModel],
        system_prompt: str,
        max_reply_tokens: int,
        metrics: Metrics,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._models = tuple(models)
        self._system_prompt = system_prompt
        self._max_reply_tokens = max_reply_tokens
        self._metrics = metrics
        self._sleep = sleep

    async def answer(self, history: tuple[Turn, ...], question: str, progress: Progress) -> str:
        """The answer to `question`. Raises the last `ModelFailure` when no model gave one."""
        loaded_until = time.monotonic() + LOADING_SECONDS
        while True:
            try:
                return await self._ask_all(history, question, progress)
            except ModelFailure:
                if time.monotonic() > loaded_until or not await self._loaded_after_waiting(loaded_until):
                    raise

    async def _loaded_after_waiting(self, until: float) -> bool:
        """Whether a model was on its way; returns when none is any more, or at the time `until`."""
        waited = False
        while await self._any_loading():
            if time.monotonic() > until:
                return False
            waited = True
            await self._sleep(ASK_LOADING_EVERY)
        return waited

    async def _any_loading(self) -> bool:
        return any([await model.loading() for model in self._models])

    async def _ask_all(self, history: tuple[Turn, ...], question: str, progress: Progress) -> str:
        patient_until = time.monotonic() + PATIENCE_SECONDS
        failure: ModelFailure = ModelUnavailable("no model is configured")
        for model in self._models:
            waits = WAITS_OF_LAST if model is self._models[-1] else WAITS_BEFORE_FALLBACK
            for wait in (*waits, None):
                try:
                    return await self._ask(model, history, question, progress)
                except (ModelRefused, ContextTooLong) as refusal:
                    failure = refusal
                    break
                except ModelUnavailable as unavailable:
                    failure = unavailable
                    if wait is None or time.monotonic() > patient_until or await model.loading():
                        break
                    await self._sleep(max(wait, min(unavailable.after or 0.0, LONGEST_WAIT)))
        raise failure

    async def _ask(
        self, model: ChatModel, history: tuple[Turn, ...], question: str, progress: Progress
    ) -> str:
        """One attempt; what the model finds too long is shortened until only the question is left."""
        budget = prompt_budget(model.context_size, self._max_reply_tokens)
        while True:
            prompt = fit(self._system_prompt, history, question, budget)
            try:
                answer = await self._collect(model, prompt, progress)
            except ContextTooLong as failure:
                if len(prompt) == 2:
                    self._report(model, failure)
                    raise
                budget = int(SHRINK * sum(token_estimate(message.content) for message in prompt))
            except ModelFailure as failure:
                self._report(model, failure)
                raise
            else:
                self._metrics.model(model.name, "answered")
                return answer

    async def _collect(self, model: ChatModel, prompt: tuple[ChatMessage, ...], progress: Progress) -> str:
        answer = ""
        now = asyncio.get_running_loop().time
        latest = now() + ATTEMPT_SECONDS
        try:
            async with (
                asyncio.timeout(IDLE_SECONDS) as patience,
                aclosing(model.stream(prompt, self._max_reply_tokens)) as pieces,
            ):
                async for piece in pieces:
                    answer += piece
                    patience.reschedule(min(now() + IDLE_SECONDS, latest))
                    if answer.strip():
                        progress.show(whole_characters(answer.strip()))
        except TimeoutError:
            raise ModelUnavailable(
                f"model {model.name}: nothing more for {IDLE_SECONDS:g} s, or no end"
            ) from None
        if not answer.strip():
            raise ModelUnavailable(f"model {model.name}: an empty answer")
        return whole_characters(answer.strip())

    def _report(self, model: ChatModel, failure: ModelFailure) -> None:
        self._metrics.model(model.name, type(failure).__name__)
        log.warning("%s", failure)
