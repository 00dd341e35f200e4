from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import pytest

from clawd_runtime.bot import answering
from clawd_runtime.bot.answering import WAITS_OF_LAST, Answerer
from clawd_runtime.bot.channels.base import NoProgress
from clawd_runtime.bot.completion import (
    ChatMessage,
    ChatModel,
    ContextTooLong,
    ModelFailure,
    ModelRefused,
    ModelUnavailable,
)
from clawd_runtime.bot.metrics import Metrics
from clawd_runtime.bot.store.history import Turn

Script = str | ModelFailure | tuple[str, ModelFailure]


class Scripted:
    """A model that follows a script, one entry for a request; the last one goes on."""

    def __init__(self, name: str, *script: Script, context_size: int = 1024) -> None:
        self.name = name
        self.context_size = context_size
        self.script = list(script)
        self.prompts: list[Sequence[ChatMessage]] = []
        self.loads_for = 0

    async def loading(self) -> bool:
        self.loads_for -= 1
        return self.loads_for >= 0

    async def stream(self, messages: Sequence[ChatMessage], max_tokens: int) -> AsyncGenerator[str, None]:
        self.prompts.append(messages)
        entry = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        text, failure = entry if isinstance(entry, tuple) else ("", entry)
        for word in (text if isinstance(failure, ModelFailure) else failure).split():
            yield word + " "
        if isinstance(failure, ModelFailure):
            raise failure


class Outcome:
    def __init__(self, *models: Scripted, history: tuple[Turn, ...] = ()) -> None:
        self.waits: list[float] = []
        self.shown: list[str] = []
        self.metrics = Metrics()
        self.models = models
        self.history = history

    def answer(self) -> str:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        class Recorder(NoProgress):
            def show(_, text: str) -> None:
                self.shown.append(text)

        answerer = Answerer(cast(Any, self.models), "be kind", 128, self.metrics, sleep)
        return asyncio.run(answerer.answer(self.history, "question", Recorder()))


BUSY = ModelUnavailable("busy", 4.0)
DOWN = ModelUnavailable("down")


def test_an_answer_grows() -> None:
    outcome = Outcome(Scripted("default", "one two three"))
    assert outcome.answer() == "one two three"
    assert outcome.shown == ["one", "one two", "one two three"]


def test_it_asks_again_and_waits_as_it_was_told() -> None:
    outcome = Outcome(Scripted("default", DOWN, BUSY, ("half an", DOWN), "answer"))
    assert outcome.answer() == "answer"
    assert outcome.waits == [0.5, 4.0, 5.0]
    assert outcome.shown == ["half", "half an", "answer"]


def test_the_fallback_answers_while_the_default_cannot() -> None:
    default, fallback = Scripted("default", DOWN), Scripted("fallback", "from afar")
    outcome = Outcome(default, fallback)
    assert outcome.answer() == "from afar"
    assert len(default.prompts) == 2
    assert outcome.metrics.registry.get_sample_value(
        "clawd_model_requests_total", {"model": "fallback", "outcome": "answered"}
    )


def test_a_refusal_is_not_repeated() -> None:
    default = Scripted("default", ModelRefused("wrong key"))
    outcome = Outcome(default, Scripted("fallback", "x"))
    assert outcome.answer() == "x"
    assert len(default.prompts) == 1
    assert outcome.waits == []


def test_an_empty_answer_is_none() -> None:
    assert Outcome(Scripted("default", "", " ", "something")).answer() == "something"


def test_half_a_character_from_a_model_is_replaced() -> None:
    outcome = Outcome(Scripted("default", "\ud83d\ude00 \ud83d"))
    assert outcome.answer() == "😀 \ufffd"
    assert outcome.shown == ["😀", "😀 \ufffd"]


def test_in_the_end_it_gives_up() -> None:
    default = Scripted("default", DOWN)
    outcome = Outcome(default)
    with pytest.raises(ModelUnavailable):
        outcome.answer()
    assert len(default.prompts) == len(WAITS_OF_LAST) + 1
    assert tuple(outcome.waits) == WAITS_OF_LAST


def test_a_model_that_is_being_loaded_is_waited_for_as_long_as_its_engine_says_so() -> None:
    default = Scripted("default", DOWN, "at last")
    default.loads_for = 100
    outcome = Outcome(default)
    assert outcome.answer() == "at last"
    assert sum(outcome.waits) == pytest.approx(answering.ASK_LOADING_EVERY * 99)


def test_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "LOADING_SECONDS", 0.05)
    default = Scripted("default", DOWN)
    default.loads_for = 10**9
    with pytest.raises(ModelUnavailable):
        Outcome(default).answer()


def test_while_it_is_loaded_the_fallback_answers() -> None:
    default = Scripted("default", DOWN)
    default.loads_for = 10**9
    outcome = Outcome(default, Scripted("fallback", "from afar"))
    assert outcome.answer() == "from afar"
    assert outcome.waits == []


class Slow:
    """Gives these pieces with a pause before each."""

    name = "slow"
    context_size = 1024

    def __init__(self, pause: float, *pieces: str) -> None:
        self.pause = pause
        self.pieces = pieces

    async def loading(self) -> bool:
        return False

    async def stream(self, messages: Sequence[ChatMessage], max_tokens: int) -> AsyncGenerator[str, None]:
        for piece in self.pieces:
            await asyncio.sleep(self.pause)
            yield piece


async def _ask_once(model: Slow) -> str:
    async def sleep(seconds: float) -> None:
        return

    return await Answerer(cast(Any, [model]), "be kind", 128, Metrics(), sleep).answer(
        (), "question", NoProgress()
    )


def test_a_slow_answer_may_take_longer_than_its_longest_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "IDLE_SECONDS", 0.2)
    assert asyncio.run(_ask_once(Slow(0.05, *"abcdefgh"))) == "abcdefgh"


@pytest.mark.parametrize(("idle", "total", "pieces"), [(0.02, 9.0, "ab"), (9.0, 0.1, "a" * 400)])
def test_a_stalled_or_endless_answer_is_given_up(
    monkeypatch: pytest.MonkeyPatch, idle: float, total: float, pieces: str
) -> None:
    monkeypatch.setattr(answering, "IDLE_SECONDS", idle)
    monkeypatch.setattr(answering, "ATTEMPT_SECONDS", total)
    monkeypatch.setattr(answering, "WAITS_OF_LAST", ())
    with pytest.raises(ModelUnavailable, match="or no end"):
        asyncio.run(_ask_once(Slow(0.05, *pieces)))


def test_a_long_wait_is_not_endless() -> None:
    outcome = Outcome(Scripted("default", ModelUnavailable("busy", 9999.0), "answer"))
    assert outcome.answer() == "answer"
    assert outcome.waits == [30.0]


def test_what_is_too_long_is_shortened_from_the_oldest() -> None:
    history = tuple(Turn(("user", "assistant")[n % 2], f"turn {n} " + "x" * 60) for n in range(12))
    long = ContextTooLong("too long")
    default = Scripted("default", long, long, "answer")
    assert Outcome(default, history=history).answer() == "answer"
    lengths = [len(prompt) for prompt in default.prompts]
    assert lengths == sorted(set(lengths), reverse=True)
    assert lengths[0] == 14
    assert default.prompts[-1][1].role == "user"
    assert default.prompts[-1][-2].content.startswith("turn 11")


def test_a_question_that_is_itself_too_long() -> None:
    history = (Turn("user", "before"), Turn("assistant", "then"))
    default = Scripted("default", ContextTooLong("too long"))
    with pytest.raises(ContextTooLong):
        Outcome(default, history=history).answer()
    assert len(default.prompts[-1]) == 2


def test_the_fallback_may_have_a_longer_context() -> None:
    default = Scripted("default", ContextTooLong("too long"))
    assert Outcome(default, Scripted("fallback", "it fits")).answer() == "it fits"


def test_mypy_sees_the_same_interface() -> None:
    assert Scripted.stream.__annotations__ == ChatModel.stream.__annotations__
