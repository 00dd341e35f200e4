"""How well a model predicts a text, and how many questions it gets right."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from clawd_runtime.engine.model_tools.questions import QuizQuestion
from clawd_runtime.errors import ModelError
from clawd_runtime.progress import ReportFraction

WINDOW = 512
"""Tokens that the model sees at once."""
STRIDE = 256
"""Tokens by which the window moves: each token is predicted from at least as many, but for the first."""


class TextModel(Protocol):
    """A model that gives scores to the tokens that may follow (`engine.llama.scoring`)."""

    @property
    def beginning(self) -> tuple[int, ...]:
        """Return the token that begins every text of this model, if there is one."""

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, without the token that begins it."""

    def length(self, token: int) -> int:
        """Return the number of bytes of a token's text."""

    def forget(self, kept: int = 0) -> int:
        """Forget all but the first `kept` tokens and return how many are kept; some models keep none."""

    def feed(self, tokens: Sequence[int], position: int) -> Any:
        """Compute tokens from `position` on and return the scores of all tokens after the last one."""

    def feed_scored(self, tokens: Sequence[int], position: int) -> Iterator[Any]:
        """Compute tokens from `position` on and return the scores after each, one part of them a time."""


@dataclass(frozen=True, slots=True)
class TextQuality:
    """How well a text is predicted.

    `error` is the standard error of `perplexity`. `bits_per_byte` compares models of different tokenizers,
    the perplexity does not. `likeliest` is the token that the model expects at each place; models of the same
    `tokens_digest` can be compared by them, and by the `losses` at these places.
    """

    tokens: int
    perplexity: float
    error: float
    bits_per_byte: float
    likeliest: tuple[int, ...]
    losses: tuple[float, ...]
    tokens_digest: str


def text_quality(model: TextModel, text: str, most: int, report: ReportFraction) -> TextQuality:
    """Return how well the first `most` tokens of a text are predicted, in overlapping windows.

    Raises:
        ModelError: The text is too short, or the model computes no numbers.

    """
    tokens = model.tokens(text)[:most]
    if len(tokens) < 2 * STRIDE:
        raise ModelError(
            f"the text has only {len(tokens)} tokens, and {2 * STRIDE} are needed", advice="use a longer text"
        )
    losses: list[float] = []
    likeliest: list[int] = []
    scored = 1
    while scored < len(tokens):
        # One token of the window is the one that begins a text.
        begin = max(0, min(scored - STRIDE, len(tokens) - WINDOW + 1))
        end = min(begin + WINDOW - 1, len(tokens))
        for loss, expected in _window(model, tokens[begin:end], scored - begin):
            losses.append(loss)
            likeliest.append(expected)
        scored = end
        report(scored / len(tokens))
    mean = sum(losses) / len(losses)
    if not math.isfinite(mean):
        raise ModelError("the model has computed probabilities that are no numbers", advice="do not use it")
    spread = float(np.std(losses, ddof=1)) / math.sqrt(len(losses))
    perplexity = math.exp(mean)
    size = sum(map(model.length, tokens[1:]))
    return TextQuality(
        len(losses),
        perplexity,
        perplexity * spread,
        mean * len(losses) / math.log(2) / size,
        tuple(likeliest),
        tuple(round(loss, 6) for loss in losses),
        hashlib.sha256(str(tokens).encode()).hexdigest(),
    )


def _window(model: TextModel, tokens: Sequence[int], first: int) -> list[tuple[float, int]]:
    """Return the loss of each token from `first` on, and the token that the model expects there."""
    model.forget()
    whole = [*model.beginning, *tokens]
    shift = len(model.beginning)
    found: list[tuple[float, int]] = []
    # The scores after a token predict the next one.
    unscored = whole[: first + shift - 1]
    if unscored:
        model.feed(unscored, 0)
    place = len(unscored)
    for scores in model.feed_scored(whole[place:-1], place):
        table = log_probabilities(scores)
        for row in range(len(table)):
            found.append((-float(table[row, whole[place + 1]]), int(table[row].argmax())))
            place += 1
    return found


def right_answers(model: TextModel, questions: Sequence[QuizQuestion], report: ReportFraction) -> int:
    """Return how many questions the model gets right: the answer that it finds likeliest counts."""
    right = 0
    for number, question in enumerate(questions):
        right += _likeliest(model, question) == 0
        report((number + 1) / len(questions))
    return right


def _likeliest(model: TextModel, question: QuizQuestion) -> int:
    """Return the position of the answer that is the likeliest continuation, the right one being 0."""
    begin = list(model.beginning)
    texts = [begin + model.tokens(question.text + answer) for answer in question.answers]
    common = 0
    while all(len(text) > common + 1 and text[common] == texts[0][common] for text in texts):
        common += 1
    if not common:  # a model without a beginning token, and answers that change the first token
        raise ModelError("a question has no tokens in common with its answers", advice="report this error")
    model.forget()
    after = log_probabilities(model.feed(texts[0][:common], 0))
    totals = []
    for text in texts:
        rest = text[common:]
        total = float(after[rest[0]])
        if len(rest) > 1:
            if model.forget(common) < common:
                model.feed(text[:common], 0)
            place = 1
            for scores in model.feed_scored(rest[:-1], common):
                for row in log_probabilities(scores):
                    total += float(row[rest[place]])
                    place += 1
        totals.append(total)
    return int(np.argmax(totals))


def log_probabilities(scores: Any) -> Any:
    """Return the natural logarithms of the probabilities of all tokens, from their scores, row by row."""
    scores = scores.astype(np.float64)
    scores = scores - scores.max(axis=-1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=-1, keepdims=True))
