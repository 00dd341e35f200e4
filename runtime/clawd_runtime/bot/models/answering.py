"""Requests to the models for an answer: retries, and the next model when one does not answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

from clawd_runtime.bot.channels.base import AnswerProgress
from clawd_runtime.bot.models.attempt import (
    AnswerSource,
    Attempt,
    ModelAnswer,
    ModelQuestion,
    first_token_seconds,
)
from clawd_runtime.bot.models.dialect import RequestOrigin
from clawd_runtime.bot.models.failures import (
    AnswerBroken,
    AnswerEmpty,
    ConnectionLost,
    ContentFiltered,
    ContextTooLong,
    ModelFailure,
    ModelHung,
    ModelRefused,
    ModelUnavailable,
    NoAnswerReached,
)
from clawd_runtime.bot.models.guarded import ITS_REQUEST, GuardedModel
from clawd_runtime.bot.models.judge import Trial
from clawd_runtime.bot.models.pool import ModelOrder, ModelPlace, ModelPool
from clawd_runtime.bot.models.remote_policy import Asker
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.store.history import Turn

# Waits before the same model is asked again, as long as its circuit breaker is closed.
WAITS_BEFORE_FALLBACK = (0.5,)
WAITS_OF_LAST = (0.5, 2.0, 5.0, 10.0, 20.0)
LONGEST_WAIT = 30.0
PATIENCE_SECONDS = 300.0
MOST_ATTEMPTS: dict[type[ModelFailure], int] = {AnswerBroken: 2, AnswerEmpty: 3, ConnectionLost: 2}
"""How often a model is asked again after unusable answers, which it would probably repeat, and after a lost
connection: the question may be what ends its process.
"""

Sleep = Callable[[float], Awaitable[None]]


@dataclass(slots=True)
class _Course:
    """The state of one question: which models failed so far, and how."""

    spent: set[str] = field(default_factory=set)
    """Models that are not asked this question again."""
    partial: str = ""
    """The longest incomplete answer."""
    source: AnswerSource | None = None
    """Where it is from."""
    failures: list[ModelFailure] = field(default_factory=list)
    seen: Counter[tuple[str, type[ModelFailure]]] = field(default_factory=Counter)

    def add(self, source: AnswerSource, failure: ModelFailure) -> int:
        """Record a failure; return how often the model has failed in this way."""
        self.failures.append(failure)
        if isinstance(failure, ModelHung | AnswerBroken) and len(failure.partial) > len(self.partial):
            self.partial, self.source = failure.partial, source
        self.seen[source.model, type(failure)] += 1
        return self.seen[source.model, type(failure)]

    @property
    def decided(self) -> bool:
        """Return whether there is a result for the user, so that it is pointless to wait for a model."""
        return bool(self.partial) or any(isinstance(each, NoAnswerReached) for each in self.failures)

    def failure(self) -> ModelFailure:
        """Return the failure that is most informative for the user: the last one of the first kind found."""
        for kind in (NoAnswerReached, ContextTooLong, ContentFiltered):
            if found := [each for each in self.failures if isinstance(each, kind)]:
                return found[-1]
        return self.failures[-1] if self.failures else ModelUnavailable("no model answers")


class Answerer:
    """Gets answers from the models of `pool`."""

    def __init__(
        self,
        pool: ModelPool,
        system_prompt: str,
        max_reply_tokens: int,
        metrics: Metrics,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.observe: Callable[[str, Trial], None] = lambda model, trial: None
        self.pool = pool
        self.system_prompt = system_prompt
        self.max_reply_tokens = max_reply_tokens
        self.metrics = metrics
        self.sleep = sleep

    def is_free(self, asker: Asker) -> bool:
        """Return whether a message of `asker` would get a place at a model at once."""
        return self.pool.is_free(asker)

    def ahead(self, asker: Asker) -> int:
        """Return how many messages are ahead of one that waits for a place."""
        return self.pool.ahead(asker)

    @asynccontextmanager
    async def admission(self, asker: Asker) -> AsyncIterator[Admission]:
        """Hold a place at the first model that answers; raise `ModelUnavailable` if none does."""
        selection = self.pool.selection(asker)
        async with AsyncExitStack() as held:
            place = await held.enter_async_context(
                self.pool.place(asker, selection.models, frozenset(), wait=True)
            )
            if place is None:
                allowed = "no model answers" if selection.models else "no model may answer this conversation"
                raise ModelUnavailable(allowed)
            yield Admission(self, asker, selection, place, held)


class Admission:
    """A message that holds a place at a model, and exchanges it for one at the next if that fails."""

    def __init__(
        self, answerer: Answerer, asker: Asker, selection: ModelOrder, place: ModelPlace, held: AsyncExitStack
    ) -> None:
        self._answerer = answerer
        self._asker = asker
        self._selection = selection
        self._place: ModelPlace | None = place
        self._held = held

    async def answer(self, history: tuple[Turn, ...], question: str, progress: AnswerProgress) -> ModelAnswer:
        """Return the answer to `question`; raise the most informative `ModelFailure` if no model gives one.

        A model that timed out or only reasoned is not asked again: it would take as long again.
        """
        answerer, course = self._answerer, _Course()
        origin = RequestOrigin.of(self._asker.conversation, self._asker.user)
        asked = ModelQuestion(
            answerer.system_prompt, history, question, answerer.max_reply_tokens, progress, origin
        )
        until = _now() + PATIENCE_SECONDS
        while self._place is not None:
            answer = await self._ask_repeatedly(self._place, asked, course, until)
            if answer is not None:
                return answer
            await self._held.aclose()
            self._place = await self._held.enter_async_context(
                answerer.pool.place(
                    self._asker, self._selection.models, course.spent, wait=not course.decided
                )
            )
        if course.partial:
            return ModelAnswer(course.partial, "broken", course.source)
        raise course.failure()

    async def _ask_repeatedly(
        self, place: ModelPlace, asked: ModelQuestion, course: _Course, until: float
    ) -> ModelAnswer | None:
        """Ask the model of the held place until it answers, must not be asked again, or its breaker opens."""
        model, sleep = place.model, self._answerer.sleep
        waits: tuple[float, ...] = WAITS_OF_LAST if self._is_last(model) else WAITS_BEFORE_FALLBACK
        if course.decided:
            waits = ()
        while True:
            try:
                return await self._ask(model, place.ticket, asked)
            except (ModelHung, ModelRefused, ContextTooLong, NoAnswerReached) as failure:
                course.add(self._source(model), failure)
                course.spent.add(model.name)
                await model.failed(place.ticket, failure)
                return None
            except ModelUnavailable as unavailable:
                times = course.add(self._source(model), unavailable)
                await model.failed(place.ticket, unavailable)
                most = MOST_ATTEMPTS.get(type(unavailable), len(WAITS_OF_LAST) + 1)
                made = sum(count for (name, _), count in course.seen.items() if name == model.name)
                if times >= most or made > len(waits) or _now() > until:
                    course.spent.add(model.name)
                    return None
                if not model.breaker.admits:
                    return None
                await sleep(max(waits[made - 1], min(unavailable.after or 0.0, LONGEST_WAIT)))
                if not model.breaker.admits:
                    return None
                place.ticket = model.breaker.begin()

    async def _ask(self, model: GuardedModel, ticket: int, asked: ModelQuestion) -> ModelAnswer:
        attempt = Attempt(
            model.client,
            first_token_seconds(model.client, last=self._is_last(model)),
            self._answerer.metrics,
            lambda: model.breaker.responded(ticket),
        )
        try:
            answer = await attempt.answer(asked.redacted(model.policy.redacted))
        except NoAnswerReached:
            self._answerer.observe(model.name, Trial(attempt.first_token, attempt.elapsed, cut=True))
            raise
        except ModelFailure as failure:
            if not isinstance(failure, ITS_REQUEST):
                self._answerer.observe(model.name, Trial(attempt.first_token))
            raise
        trial = Trial(attempt.first_token, attempt.elapsed, cut=answer.cut is not None)
        self._answerer.observe(model.name, trial)
        model.breaker.succeeded(ticket)
        return replace(answer, source=self._source(model))

    def _is_last(self, model: GuardedModel) -> bool:
        return model is self._selection.models[-1]

    def _source(self, model: GuardedModel) -> AnswerSource:
        mark = model.client.label if model.policy.marks else ""
        return AnswerSource(model.name, self._selection.version, mark)


def _now() -> float:
    return asyncio.get_running_loop().time()
