"""How texts and questions are scored, with a model that gives every token the same probability."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from clawd_runtime.engine.model_tools.quality import STRIDE, WINDOW, right_answers, text_quality
from clawd_runtime.engine.model_tools.questions import QUESTIONS, QuizQuestion
from clawd_runtime.errors import ModelError

LETTERS = 128


class UniformModel:
    """A model whose tokens are letters, which expects `likes` and is indifferent to the rest.

    As strict as llama.cpp: tokens are fed in order, into a context of `WINDOW`.
    """

    def __init__(self, beginning: Sequence[int] = (), likes: str = "", keeps: bool = True) -> None:
        self._beginning = tuple(beginning)
        self.held: list[int] = []
        self._likes = likes
        self._keeps = keeps

    @property
    def beginning(self) -> tuple[int, ...]:
        return self._beginning

    def tokens(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]

    def length(self, token: int) -> int:
        return 1

    def forget(self, kept: int = 0) -> int:
        self.held = self.held[: kept if self._keeps else 0]
        return len(self.held)

    def feed(self, tokens: Sequence[int], position: int) -> Any:
        (scores,) = [part[-1:] for part in self.feed_scored(tokens, position)]
        return scores[0]

    def feed_scored(self, tokens: Sequence[int], position: int) -> Iterator[Any]:
        assert position == len(self.held)
        assert tokens
        self.held += tokens
        assert len(self.held) <= WINDOW
        scores = np.zeros((len(tokens), LETTERS))
        for letter in self._likes:
            scores[:, ord(letter)] = 5
        yield scores


@pytest.mark.parametrize("beginning", [(), (1,)])
@pytest.mark.parametrize("length", [2 * STRIDE, WINDOW + 1, 3 * STRIDE, 1500, 4096])
def test_every_token_but_the_first_is_predicted_once(length: int, beginning: tuple[int, ...]) -> None:
    parts: list[float] = []
    found = text_quality(UniformModel(beginning), "ab" * length, length, parts.append)
    assert found.tokens == len(found.losses) == len(found.likeliest) == length - 1
    assert found.perplexity == pytest.approx(LETTERS)
    assert found.bits_per_byte == pytest.approx(math.log2(LETTERS))
    assert found.error == pytest.approx(0, abs=1e-9)
    assert parts[-1] == 1
    assert parts == sorted(parts)


def test_text_that_is_too_short_is_refused() -> None:
    with pytest.raises(ModelError, match="the text has only 511 tokens"):
        text_quality(UniformModel(), "a" * 511, 4096, lambda _: None)


def test_models_that_compute_no_numbers_are_refused() -> None:
    class Broken(UniformModel):
        def feed_scored(self, tokens: Sequence[int], position: int) -> Iterator[Any]:
            for scores in super().feed_scored(tokens, position):
                yield scores * np.nan

    with np.errstate(all="ignore"), pytest.raises(ModelError, match="no numbers"):
        text_quality(Broken(), "a" * 600, 600, lambda _: None)


@pytest.mark.parametrize("keeps", [True, False])
@pytest.mark.parametrize(("likes", "right"), [("y", 1), ("n", 0)])
def test_answer_that_the_model_finds_likeliest_counts(likes: str, right: int, keeps: bool) -> None:
    """Also of a model that cannot forget a part of what it has read."""
    question = QuizQuestion("so: ", ("yyy", "nnn", "xxx", "zzz"))
    assert right_answers(UniformModel(likes=likes, keeps=keeps), [question], lambda _: None) == right


def test_questions_have_four_different_answers() -> None:
    assert {language: len(questions) for language, questions in QUESTIONS.items()} == {"en": 40, "zh": 20}
    for question in (question for questions in QUESTIONS.values() for question in questions):
        assert len(set(question.answers)) == 4, question
        assert question.text
