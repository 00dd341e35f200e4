"""Requests to the models for an answer: retries, timeouts, the fallback model, fitting of the prompt."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from clawd_runtime.bot.channels.base import AnswerProgress
from clawd_runtime.bot.models.chat_chunks import Cut
from clawd_runtime.bot.models.completion import ModelClient
from clawd_runtime.bot.models.dialect import ChatMessage
from clawd_runtime.bot.models.failures import (
    AnswerBroken,
    AnswerEmpty,
    ContentFiltered,
    ContextTooLong,
    ModelFailure,
    ModelHung,
    ModelRefused,
    ModelUnavailable,
    NoAnswerReached,
    RequestRejected,
)
from clawd_runtime.bot.models.prompt_budget import BYTES_A_TOKEN, fit, prompt_budget, token_estimate
from clawd_runtime.bot.models.separation import End
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.text.turn_markers import GrowingTurn, without_turn_markers
from clawd_runtime.bot.text.unicode import whole_characters
from clawd_runtime.visible import is_blank

log = logging.getLogger(__name__)

# Waits before the same model is asked again. The last model may just be starting.
WAITS_BEFORE_FALLBACK = (0.5,)
WAITS_OF_LAST = (0.5, 2.0, 5.0, 10.0, 20.0)
# A large model on a slow disk takes minutes to load. As long as its engine reports that, it has not failed.
LOADING_SECONDS = 900.0
ASK_LOADING_EVERY = 2.0
LONGEST_WAIT = 30.0
# How long a model may take until its first token, reasoning included, if its settings do not say: less if
# another one can answer instead. A local engine may first have to finish an answer and compute the prompt.
FIRST_TOKEN_SECONDS = 30.0
FIRST_TOKEN_SECONDS_LOCAL = 60.0
FIRST_TOKEN_SECONDS_OF_LAST = 240.0
# The total time and the size are limited in case a server never ends its answer.
ATTEMPT_SECONDS = 1800.0
LONGEST_ANSWER = 256 * 1024
PATIENCE_SECONDS = 300.0
SHRINK = 0.6
MOST_SHRINKS = 4
MOST_ATTEMPTS: dict[type[ModelFailure], int] = {AnswerBroken: 2, AnswerEmpty: 3}
"""How often a model is asked again after unusable answers, which it would probably repeat."""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The answer of a model, and the reason if it is incomplete."""

    text: str
    cut: Cut | None = None


@dataclass(slots=True)
class _Course:
    """The state of one question: which models failed so far, and how."""

    hung: set[str] = field(default_factory=set)
    """Models that timed out: they are not asked the same question again."""
    partial: str = ""
    """The longest incomplete answer."""
    failures: list[ModelFailure] = field(default_factory=list)

    def add(self, model: ModelClient, failure: ModelFailure) -> None:
        self.failures.append(failure)
        if isinstance(failure, ModelHung):
            self.hung.add(model.name)
        if isinstance(failure, ModelHung | AnswerBroken) and len(failure.partial) > len(self.partial):
            self.partial = failure.partial

    @property
    def decided(self) -> bool:
        """Return whether there is a result for the user, so that it is pointless to wait for a model."""
        return bool(self.partial) or any(isinstance(each, NoAnswerReached) for each in self.failures)

    def failure(self) -> ModelFailure:
        """Return the failure that is most informative for the user: the last one of the first kind found."""
        for kind in (NoAnswerReached, ContextTooLong, ContentFiltered):
            if found := [each for each in self.failures if isinstance(each, kind)]:
                return found[-1]
        return self.failures[-1] if self.failures else ModelUnavailable("no model is configured")


class Answerer:
    """Gets answers from `models`, asked in order of preference."""

    def __init__(
        self,
        models: Sequence[ModelClient],
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

    async def answer(self, history: tuple[Turn, ...], question: str, progress: AnswerProgress) -> ModelAnswer:
        """Return the answer to `question`; raise the most informative `ModelFailure` if no model gives one.

        A model that timed out or only reasoned is not asked again: it would take as long again.
        """
        loaded_until = time.monotonic() + LOADING_SECONDS
        course = _Course()
        while True:
            answer = await self._ask_all(history, question, progress, course)
            if answer is not None:
                return answer
            if course.partial:
                return ModelAnswer(course.partial, "broken")
            if (
                course.decided
                or time.monotonic() > loaded_until
                or not await self._loaded_after_waiting(loaded_until, course)
            ):
                raise course.failure()

    async def _loaded_after_waiting(self, until: float, course: _Course) -> bool:
        """Wait until no model is loading, at most until `until`; return whether one has finished loading."""
        waited = False
        while await self._any_loading(course):
            if time.monotonic() > until:
                return False
            waited = True
            await self._sleep(ASK_LOADING_EVERY)
        return waited

    async def _any_loading(self, course: _Course) -> bool:
        probes = (model.loading() for model in self._models if model.name not in course.hung)
        return any(await asyncio.gather(*probes))

    async def _ask_all(
        self, history: tuple[Turn, ...], question: str, progress: AnswerProgress, course: _Course
    ) -> ModelAnswer | None:
        """Ask one model after another; return `None` if none answered, with the failures in `course`."""
        patient_until = time.monotonic() + PATIENCE_SECONDS
        for model in self._models:
            if model.name in course.hung:
                continue
            waits = WAITS_OF_LAST if model is self._models[-1] else WAITS_BEFORE_FALLBACK
            seen: Counter[type[ModelFailure]] = Counter()
            for wait in (*(() if course.decided else waits), None):
                try:
                    return await self._ask(model, history, question, progress)
                except (ModelHung, ModelRefused, ContextTooLong, NoAnswerReached) as failure:
                    course.add(model, failure)
                    break
                except ModelUnavailable as unavailable:
                    course.add(model, unavailable)
                    kind = type(unavailable)
                    seen[kind] += 1
                    if (
                        wait is None
                        or seen[kind] >= MOST_ATTEMPTS.get(kind, len(WAITS_OF_LAST) + 1)
                        or time.monotonic() > patient_until
                        or await model.loading()
                    ):
                        break
                    await self._sleep(max(wait, min(unavailable.after or 0.0, LONGEST_WAIT)))
        return None

    async def _ask(
        self, model: ModelClient, history: tuple[Turn, ...], question: str, progress: AnswerProgress
    ) -> ModelAnswer:
        """Make one attempt. A refused prompt is shortened until only the question is left.

        It is shortened for any reason of the refusal: it may be the length, in unknown words of the
        server, or something in the history. Otherwise every further question of the conversation would be
        refused.
        """
        budget = prompt_budget(model.context_size, self._max_reply_tokens)
        refusals = 0
        while True:
            prompt = fit(self._system_prompt, history, question, budget)
            try:
                answer = await self._collect(model, prompt, progress)
            except (ContextTooLong, RequestRejected, ContentFiltered) as failure:
                if len(prompt) == 2:
                    self._report(model, failure)
                    raise
                refusals += 1
                used = sum(token_estimate(message.content) for message in prompt)
                budget = _shorter(used, refusals, known=isinstance(failure, ContextTooLong))
            except ModelFailure as failure:
                self._report(model, failure)
                raise
            else:
                self._metrics.model(model.name, "answered" if answer.cut is None else "cut")
                return answer

    async def _collect(
        self, model: ModelClient, prompt: tuple[ChatMessage, ...], progress: AnswerProgress
    ) -> ModelAnswer:
        growing = _Growing(progress)
        end = End()
        now = asyncio.get_running_loop().time
        latest = now() + ATTEMPT_SECONDS
        first = self._first_token_seconds(model)
        try:
            async with (
                asyncio.timeout(first) as patience,
                aclosing(model.stream(prompt, self._max_reply_tokens)) as pieces,
            ):
                async for piece in pieces:
                    if isinstance(piece, End):
                        end = piece
                        break
                    growing.add(piece.text, piece.reasoning, piece.restarts, piece.provisional)
                    if len(growing.text) > LONGEST_ANSWER:
                        end = End("length")
                        break
                    patience.reschedule(min(now() + model.token_gap_seconds, latest))
        except TimeoutError:
            waited = model.token_gap_seconds if growing.started else first
            raise ModelHung(
                f"model {model.name}: no token for {waited:g} s, or answer not ended in time",
                growing.answer(),
            ) from None
        except ModelUnavailable as failure:
            if partial := growing.answer():
                raise AnswerBroken(failure.message, partial) from None
            raise
        finally:
            self._metrics.reasoning(model.name, growing.reasoning_tokens(end.reasoning_tokens))
        answer = growing.answer()
        if answer:
            growing.show_once()
            return ModelAnswer(answer, end.cut)
        if end.cut == "filtered":
            raise ContentFiltered(f"model {model.name}: answer withheld by a content filter")
        if growing.reasoned or end.reasoning_tokens or end.cut == "length":
            raise NoAnswerReached(
                f"model {model.name}: no answer after its reasoning",
                advice="raise bot.max_reply_tokens, which includes reasoning, or use a model that "
                "reasons less",
            )
        raise AnswerEmpty(f"model {model.name}: empty answer")

    def _first_token_seconds(self, model: ModelClient) -> float:
        if not model.streams:
            return FIRST_TOKEN_SECONDS_OF_LAST
        if model.first_token_seconds is not None:
            return model.first_token_seconds
        if model is self._models[-1]:
            return FIRST_TOKEN_SECONDS_OF_LAST
        return FIRST_TOKEN_SECONDS_LOCAL if model.local else FIRST_TOKEN_SECONDS

    def _report(self, model: ModelClient, failure: ModelFailure) -> None:
        self._metrics.model(model.name, type(failure).__name__)
        log.warning("%s", failure)


class _Growing:
    """An answer while it is received, shown as far as it is certainly no reasoning."""

    def __init__(self, progress: AnswerProgress) -> None:
        self.text = ""
        self.started = False
        self._shown = False
        self._turn = GrowingTurn()
        self._reasoning_bytes = 0
        self._progress = progress

    def add(self, text: str, reasoning: str, restarts: bool, provisional: bool) -> None:
        """Add a piece; with `restarts`, all text before it was reasoning."""
        self.started = True
        self._reasoning_bytes += len(reasoning.encode("utf-8", "surrogatepass"))
        if restarts:
            self.text, self._turn = "", GrowingTurn()
        self.text += text
        if text and not provisional and (turn := self._turn.of(self.text)) and (shown := _visible(turn)):
            self._show(shown)

    def show_once(self) -> None:
        """Show the whole answer if none of it was shown: until its end it could have been reasoning."""
        if not self._shown:
            self._show(self.answer())

    def _show(self, text: str) -> None:
        self._shown = True
        self._progress.show(text)

    def answer(self) -> str:
        """Return the answer in the form to show and store; empty if nothing in it is visible."""
        return _visible(without_turn_markers(self.text))

    @property
    def reasoned(self) -> bool:
        """Return whether any reasoning was received."""
        return self._reasoning_bytes > 0

    def reasoning_tokens(self, counted: int | None) -> int:
        """Return the number of reasoning tokens: counted by the server, or estimated from the length."""
        if counted is not None:
            return counted
        return -(-self._reasoning_bytes // BYTES_A_TOKEN)


def _visible(text: str) -> str:
    answer = whole_characters(text.strip())
    return "" if is_blank(answer) else answer


def _shorter(used: int, refusals: int, *, known: bool) -> int:
    """Return the next budget after a prompt of `used` tokens was refused for the nth time.

    If the reason is `known` to be the length, it shrinks step by step; otherwise to half, then to the
    question alone.
    """
    if known:
        return int(SHRINK * used) if refusals <= MOST_SHRINKS else 0
    return used // 2 if refusals == 1 else 0
