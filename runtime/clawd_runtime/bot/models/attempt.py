"""One attempt to get an answer from one model: fitting of the prompt, deadlines, the growing answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace

from clawd_runtime.bot.channels.base import AnswerProgress
from clawd_runtime.bot.models.chat_chunks import Cut
from clawd_runtime.bot.models.completion import ModelClient
from clawd_runtime.bot.models.dialect import ChatMessage, RequestOrigin
from clawd_runtime.bot.models.failures import (
    AnswerBroken,
    AnswerEmpty,
    ContentFiltered,
    ContextTooLong,
    ModelFailure,
    ModelHung,
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

# How long a model may take until its first token, reasoning included, if its settings do not say: less if
# another one can answer instead. A local engine may first have to finish an answer and compute the prompt.
FIRST_TOKEN_SECONDS = 30.0
FIRST_TOKEN_SECONDS_LOCAL = 60.0
FIRST_TOKEN_SECONDS_OF_LAST = 240.0
# The total time and the size are limited in case a server never ends its answer.
ATTEMPT_SECONDS = 1800.0
LONGEST_ANSWER = 256 * 1024
SHRINK = 0.6
MOST_SHRINKS = 4


@dataclass(frozen=True, slots=True)
class AnswerSource:
    """The model that has answered, and the version of the routes by which it was asked.

    `mark` is the name of the model for people, if the answer must show it.
    """

    model: str
    route: int = 0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """The tokens of a prompt and of its answer with its reasoning.

    `counted` by the server, or estimated from the texts.
    """

    prompt: int
    answer: int
    counted: bool


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The answer of a model, and the reason if it is incomplete.

    `source` and `tokens` do not count in comparisons.
    """

    text: str
    cut: Cut | None = None
    source: AnswerSource | None = field(default=None, compare=False)
    tokens: AnswerTokens | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class ModelQuestion:
    """What a model is asked, and where its answer is shown while it grows."""

    system_prompt: str
    history: tuple[Turn, ...]
    text: str
    max_reply_tokens: int
    progress: AnswerProgress
    origin: RequestOrigin | None = None

    def redacted(self, redact: Callable[[str], str]) -> ModelQuestion:
        """Return the question with every text of the conversation changed by `redact`."""
        history = tuple(replace(turn, text=redact(turn.text)) for turn in self.history)
        return replace(self, history=history, text=redact(self.text))


def first_token_seconds(model: ModelClient, *, last: bool) -> float:
    """Return the deadline for the first token of `model`; `last`: no other model can answer instead."""
    if not model.streams:
        return FIRST_TOKEN_SECONDS_OF_LAST
    if model.first_token_seconds is not None:
        return model.first_token_seconds
    if last:
        return FIRST_TOKEN_SECONDS_OF_LAST
    return FIRST_TOKEN_SECONDS_LOCAL if model.local else FIRST_TOKEN_SECONDS


class Attempt:
    """One attempt at `model`, whose first token must arrive within `first` seconds.

    `on_first_token` is called when it does.
    """

    def __init__(
        self, model: ModelClient, first: float, metrics: Metrics, on_first_token: Callable[[], None]
    ) -> None:
        self._model = model
        self._first = first
        self._metrics = metrics
        self._on_first_token = on_first_token
        self._began = _now()
        self.first_token: float | None = None
        """Seconds until the first token."""

    @property
    def elapsed(self) -> float:
        """Return the seconds since it began."""
        return _now() - self._began

    async def answer(self, question: ModelQuestion) -> ModelAnswer:
        """Return the answer, or raise a `ModelFailure`.

        A refused prompt is shortened until only the question is left, for any reason of the refusal: it may
        be the length, in unknown words of the server, or something in the history. Otherwise every further
        question of the conversation would be refused.
        """
        model = self._model
        budget = prompt_budget(model.context_size, question.max_reply_tokens)
        refusals = 0
        while True:
            prompt = fit(question.system_prompt, question.history, question.text, budget)
            try:
                answer = await self._collect(prompt, question)
            except (ContextTooLong, RequestRejected, ContentFiltered) as failure:
                if len(prompt) == 2:
                    self._report(failure)
                    raise
                refusals += 1
                used = sum(token_estimate(message.content) for message in prompt)
                budget = _shorter(used, refusals, known=isinstance(failure, ContextTooLong))
            except ModelFailure as failure:
                self._report(failure)
                raise
            else:
                self._metrics.model(model.name, "answered" if answer.cut is None else "cut")
                self._metrics.answer(model.name, self.elapsed)
                return answer

    async def _collect(self, prompt: tuple[ChatMessage, ...], question: ModelQuestion) -> ModelAnswer:
        model = self._model
        growing = _Growing(question.progress)
        end = End()
        now = asyncio.get_running_loop().time
        latest = now() + ATTEMPT_SECONDS
        try:
            async with (
                asyncio.timeout(self._first) as patience,
                aclosing(model.stream(prompt, question.max_reply_tokens, question.origin)) as pieces,
            ):
                async for piece in pieces:
                    if isinstance(piece, End):
                        end = piece
                        break
                    if not growing.started:
                        self._on_first_token()
                        self.first_token = now() - self._began
                        self._metrics.first_token(model.name, self.first_token)
                    growing.add(piece.text, piece.reasoning, piece.restarts, piece.provisional)
                    if len(growing.text) > LONGEST_ANSWER:
                        end = End("length")
                        break
                    patience.reschedule(min(now() + model.token_gap_seconds, latest))
        except TimeoutError:
            waited = model.token_gap_seconds if growing.started else self._first
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
            return ModelAnswer(answer, end.cut, tokens=_tokens(end, prompt, growing))
        if end.cut == "filtered":
            raise ContentFiltered(f"model {model.name}: answer withheld by a content filter")
        if growing.reasoned or end.reasoning_tokens or end.cut == "length":
            raise NoAnswerReached(
                f"model {model.name}: no answer after its reasoning",
                advice="raise bot.max_reply_tokens, which includes reasoning, or use a model that "
                "reasons less",
            )
        raise AnswerEmpty(f"model {model.name}: empty answer")

    def _report(self, failure: ModelFailure) -> None:
        self._metrics.model(self._model.name, type(failure).__name__)
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


def _tokens(end: End, prompt: Sequence[ChatMessage], growing: _Growing) -> AnswerTokens:
    if end.tokens is not None:
        return AnswerTokens(end.tokens.prompt, end.tokens.answer, counted=True)
    asked = sum(token_estimate(message.content) for message in prompt)
    answered = token_estimate(growing.text) + growing.reasoning_tokens(end.reasoning_tokens)
    return AnswerTokens(asked, answered, counted=False)


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


def _now() -> float:
    return asyncio.get_running_loop().time()
