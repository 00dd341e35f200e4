from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from clawd_runtime.bot.channels.base import NoProgress
from clawd_runtime.bot.models import attempt, guarded, pool
from clawd_runtime.bot.models.answering import WAITS_OF_LAST, Answerer
from clawd_runtime.bot.models.attempt import ModelAnswer, first_token_seconds
from clawd_runtime.bot.models.completion import ModelClient
from clawd_runtime.bot.models.failures import (
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
from clawd_runtime.bot.models.guarded import GuardedModel
from clawd_runtime.bot.models.pool import PATIENCE_SECONDS, ModelPool
from clawd_runtime.bot.models.remote_policy import Asker
from clawd_runtime.bot.models.separation import End, OutputPiece
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.values import ConversationKey
from tests.bot.scripted_model import Script, Scripted, Step
from tests.bot.virtual_time import VIRTUAL_TIME


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL_TIME


def now() -> float:
    return asyncio.get_running_loop().time()


class Outcome:
    def __init__(self, *models: Scripted, history: tuple[Turn, ...] = ()) -> None:
        self.waits: list[float] = []
        self.shown: list[str] = []
        self.metrics = Metrics()
        self.models = models
        self.history = history

    async def answer(self) -> str:
        answer = await self.whole_answer()
        assert answer.cut is None
        return answer.text

    async def whole_answer(self) -> ModelAnswer:
        async def sleep(seconds: float) -> None:
            self.waits.append(seconds)

        class Recorder(NoProgress):
            def show(_, text: str) -> None:
                self.shown.append(text)

        models = [GuardedModel(cast(Any, model), 8) for model in self.models]
        answerer = Answerer(ModelPool(models), "be kind", 128, self.metrics, sleep)
        try:
            async with answerer.admission(ANNA) as admission:
                return await admission.answer(self.history, "question", Recorder())
        finally:
            for model in models:
                await model.close()

    def requests(self, model: str, outcome: str) -> float | None:
        return self.metrics.registry.get_sample_value(
            "clawd_model_requests_total", {"model": model, "outcome": outcome}
        )

    def reasoning_tokens(self, model: str = "default") -> float | None:
        return self.metrics.registry.get_sample_value("clawd_model_reasoning_tokens_total", {"model": model})


ANNA = Asker(1, ConversationKey("scripted", "1"), "anna")
BUSY = ModelUnavailable("busy", 4.0)
DOWN = ModelUnavailable("down")
HISTORY = tuple(Turn(("user", "assistant")[n % 2], f"turn {n} " + "x" * 60) for n in range(12))


async def test_answer_is_shown_while_it_grows() -> None:
    outcome = Outcome(Scripted("default", "one two three"))
    assert await outcome.answer() == "one two three"
    assert outcome.shown == ["one", "one two", "one two three"]


async def test_retry_waits_for_retry_after() -> None:
    outcome = Outcome(Scripted("default", DOWN, BUSY, ("half an", DOWN), "answer"))
    assert await outcome.answer() == "answer"
    assert outcome.waits == [0.5, 4.0, 5.0]
    assert outcome.shown == ["half", "half an", "answer"]


async def test_fallback_answers_when_default_is_unavailable() -> None:
    default, fallback = Scripted("default", DOWN), Scripted("fallback", "from afar")
    outcome = Outcome(default, fallback)
    assert await outcome.answer() == "from afar"
    assert len(default.prompts) == 2
    assert outcome.requests("fallback", "answered")


async def test_refused_request_is_not_retried() -> None:
    default = Scripted("default", ModelRefused("wrong key"))
    outcome = Outcome(default, Scripted("fallback", "x"))
    assert await outcome.answer() == "x"
    assert len(default.prompts) == 1
    assert outcome.waits == []


@pytest.mark.parametrize(
    "empty",
    [
        "",
        " ",
        [OutputPiece("\u200b\u2060"), End()],
        [OutputPiece("\ufe0f\u3164"), End()],
        [OutputPiece("\x07"), End()],
    ],
)
async def test_empty_or_invisible_answer_is_retried(empty: Script) -> None:
    outcome = Outcome(Scripted("default", empty, "something"))
    assert await outcome.answer() == "something"
    assert outcome.shown == ["something"]


async def test_empty_answers_are_retried_only_a_few_times() -> None:
    default = Scripted("default", "")
    outcome = Outcome(default)
    with pytest.raises(AnswerEmpty):
        await outcome.answer()
    assert len(default.prompts) == 3
    assert sum(outcome.waits) < 3.0


async def test_lone_surrogate_from_model_is_replaced() -> None:
    outcome = Outcome(Scripted("default", "\ud83d\ude00 \ud83d"))
    assert await outcome.answer() == "😀 \ufffd"
    assert outcome.shown == ["😀", "😀 \ufffd"]


async def test_answerer_gives_up_after_last_retry() -> None:
    default = Scripted("default", DOWN)
    outcome = Outcome(default)
    with pytest.raises(ModelUnavailable):
        await outcome.answer()
    assert len(default.prompts) == len(WAITS_OF_LAST) + 1
    assert tuple(outcome.waits) == WAITS_OF_LAST[:-1]  # after the fifth failure a probe decides


async def test_dead_model_is_probed_instead_of_asked() -> None:
    default = Scripted("default", DOWN)
    default.is_down = True
    with pytest.raises(ModelUnavailable):
        await Outcome(default).answer()
    assert len(default.prompts) == 5
    assert 1 <= default.probes <= 10
    assert now() == pytest.approx(PATIENCE_SECONDS, abs=1.0)


def _engine(*script: Script) -> Scripted:
    engine = Scripted("default", *script)
    engine.local = True
    return engine


async def test_waits_while_engine_reports_loading() -> None:
    default = _engine(DOWN, "at last")
    default.loads_for = 100
    outcome = Outcome(default)
    assert await outcome.answer() == "at last"
    assert len(default.prompts) == 2
    assert outcome.waits == []
    assert now() == pytest.approx(guarded.ASK_LOADING_EVERY * 99, abs=2.0)


async def test_waiting_for_loading_model_times_out() -> None:
    default = _engine(DOWN)
    default.loads_for = 10**9
    with pytest.raises(ModelUnavailable):
        await Outcome(default).answer()
    assert now() == pytest.approx(pool.LOADING_SECONDS, abs=1.0)


async def test_fallback_answers_while_default_is_loading() -> None:
    default = _engine(DOWN)
    default.loads_for = 10**9
    outcome = Outcome(default, Scripted("fallback", "from afar"))
    assert await outcome.answer() == "from afar"
    assert outcome.waits == []


# --- timeouts -------------------------------------------------------------------------------------


def _slow(name: str, pause: float, *pieces: str, first: float | None = None, gap: float = 60.0) -> Scripted:
    steps: list[Step] = []
    for piece in pieces:
        steps += [pause, OutputPiece(piece)]
    model = Scripted(name, [*steps, End()])
    model.first_token_seconds, model.token_gap_seconds = first, gap
    return model


async def test_token_gap_timeout_restarts_with_each_token() -> None:
    assert await Outcome(_slow("default", 0.05, *"abcdefgh", first=0.2, gap=0.2)).answer() == "abcdefgh"


async def test_fallback_answers_when_first_token_times_out() -> None:
    default, fallback = _slow("default", 600.0, "never", first=0.1), Scripted("fallback", "from afar")
    outcome = Outcome(default, fallback)
    assert await outcome.answer() == "from afar"
    assert len(default.prompts) == 1
    assert outcome.requests("default", "ModelHung") == 1


@pytest.mark.parametrize("fallback", [DOWN, ModelHung("hung")])
async def test_timed_out_model_is_not_asked_again_for_same_message(fallback: ModelFailure) -> None:
    default = _slow("default", 60.0, "never", first=0.05)
    models = (default, Scripted("fallback", fallback))
    models[1].loads_for = 2
    with pytest.raises(ModelUnavailable):
        await Outcome(*models).answer()
    assert len(default.prompts) == 1


async def test_only_model_is_not_asked_again_after_timeout() -> None:
    default = _slow("default", 60.0, "never", first=0.05)
    with pytest.raises(ModelHung):
        await Outcome(default).answer()
    assert len(default.prompts) == 1


async def test_reasoning_counts_as_first_token() -> None:
    thinking = [step for _ in range(6) for step in (0.05, OutputPiece(reasoning="hm"))]
    model = Scripted("default", [*thinking, OutputPiece("so"), End()])
    model.first_token_seconds, model.token_gap_seconds = 0.15, 0.15
    assert await Outcome(model).answer() == "so"


def test_first_token_timeout_is_shorter_with_fallback() -> None:
    default, local, last = Scripted("default", ""), Scripted("default", ""), Scripted("fallback", "")
    local.local = True
    assert first_token_seconds(cast(Any, default), last=False) == 30.0
    assert first_token_seconds(cast(Any, local), last=False) == 60.0
    assert first_token_seconds(cast(Any, last), last=True) == 240.0
    assert first_token_seconds(cast(Any, default), last=True) == 240.0
    default.first_token_seconds = 7.0
    assert first_token_seconds(cast(Any, default), last=True) == 7.0


async def test_unstreamed_answer_has_the_longest_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "FIRST_TOKEN_SECONDS_OF_LAST", 5.0)
    whole = _slow("default", 0.3, "all at once", first=0.1)
    whole.streams = False
    assert await Outcome(whole, Scripted("fallback", "x")).answer() == "all at once"


async def test_partial_answer_is_sent_when_stream_stalls() -> None:
    stalled = Scripted("default", [OutputPiece("Half of "), OutputPiece("it"), 60.0])
    stalled.token_gap_seconds = 0.1
    assert await Outcome(stalled).whole_answer() == ModelAnswer("Half of it", "broken")
    assert len(stalled.prompts) == 1


async def test_complete_fallback_answer_is_preferred_to_partial_default() -> None:
    stalled = Scripted("default", [OutputPiece("Half of "), OutputPiece("it"), 60.0])
    stalled.token_gap_seconds = 0.1
    assert await Outcome(stalled, Scripted("fallback", "whole")).answer() == "whole"


async def test_endless_answer_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "ATTEMPT_SECONDS", 0.2)
    endless = _slow("default", 0.01, *("a" * 400))
    cut = await Outcome(endless).whole_answer()
    assert (set(cut.text), cut.cut) == ({"a"}, "broken")


async def test_answer_size_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "LONGEST_ANSWER", 1000)
    endless = Scripted("default", [OutputPiece("a" * 100) for _ in range(10_000)])
    cut = await Outcome(endless).whole_answer()
    assert cut.cut == "length"
    assert len(cut.text) == 1100


# --- answers that are cut -------------------------------------------------------------------------


@pytest.mark.parametrize("cut", ["length", "filtered"])
async def test_cut_answer_has_reason(cut: Any) -> None:
    model = Scripted("default", [OutputPiece("Half of it"), End(cut)])
    outcome = Outcome(model)
    assert await outcome.whole_answer() == ModelAnswer("Half of it", cut)
    assert len(model.prompts) == 1
    assert outcome.requests("default", "cut") == 1


async def test_broken_answer_is_retried_once_and_sent_partially() -> None:
    model = Scripted("default", ("Half", DOWN), ("Half of it", DOWN), ("Ha", DOWN))
    outcome = Outcome(model)
    assert await outcome.whole_answer() == ModelAnswer("Half of it", "broken")
    assert len(model.prompts) == 2
    assert outcome.waits == [0.5]


async def test_partial_answer_does_not_wait_for_unavailable_fallback() -> None:
    fallback = Scripted("fallback", DOWN)
    outcome = Outcome(Scripted("default", ("Half", DOWN)), fallback)
    assert await outcome.whole_answer() == ModelAnswer("Half", "broken")
    assert len(fallback.prompts) == 1
    assert outcome.waits == [0.5]


async def test_fully_filtered_answer_raises_content_filtered() -> None:
    model = Scripted("default", [End("filtered")])
    with pytest.raises(ContentFiltered):
        await Outcome(model).answer()
    assert len(model.prompts) == 1


# --- reasoning ------------------------------------------------------------------------------------


async def test_reasoning_is_hidden_and_its_tokens_are_counted() -> None:
    steps: list[Step] = [
        OutputPiece(reasoning="hm" * 30),
        OutputPiece(reasoning="so" * 30),
        OutputPiece("Paris"),
        End(),
    ]
    outcome = Outcome(Scripted("default", steps))
    assert await outcome.answer() == "Paris"
    assert outcome.shown == ["Paris"]
    assert outcome.reasoning_tokens() == 40


async def test_reasoning_tokens_counted_by_server_are_used() -> None:
    outcome = Outcome(Scripted("default", [OutputPiece(reasoning="hm"), OutputPiece("Paris"), End(None, 77)]))
    assert await outcome.answer() == "Paris"
    assert outcome.reasoning_tokens() == 77


async def test_text_that_turns_out_to_be_reasoning_is_withdrawn() -> None:
    steps: list[Step] = [
        OutputPiece("Let me think", provisional=True),
        OutputPiece("", "Let me think", restarts=True),
        OutputPiece("Paris"),
        End(),
    ]
    outcome = Outcome(Scripted("default", steps))
    assert await outcome.answer() == "Paris"
    assert outcome.shown == ["Paris"]


@pytest.mark.parametrize("end", [End(), End("length")])
async def test_provisional_answer_is_shown_once_at_its_end(end: End) -> None:
    steps: list[Step] = [OutputPiece("Par", provisional=True), OutputPiece("is", provisional=True), end]
    outcome = Outcome(Scripted("default", steps))
    assert (await outcome.whole_answer()).text == "Paris"
    assert outcome.shown == ["Paris"]


@pytest.mark.parametrize("end", [End(), End("length"), End("length", 128)])
async def test_answer_of_only_reasoning_is_not_retried(end: End) -> None:
    model = Scripted("default", [OutputPiece(reasoning="hm"), end])
    outcome = Outcome(model)
    with pytest.raises(NoAnswerReached):
        await outcome.answer()
    assert len(model.prompts) == 1
    assert outcome.waits == []


async def test_hidden_reasoning_is_not_an_empty_answer() -> None:
    model = Scripted("default", [End("length", 128)])
    with pytest.raises(NoAnswerReached):
        await Outcome(model).answer()
    assert len(model.prompts) == 1


async def test_fallback_is_asked_once_without_delay_after_only_reasoning() -> None:
    only: list[Step] = [OutputPiece(reasoning="hm"), End("length")]
    assert await Outcome(Scripted("default", only), Scripted("fallback", "Paris")).answer() == "Paris"
    fallback = Scripted("fallback", DOWN)
    outcome = Outcome(Scripted("default", only), fallback)
    with pytest.raises(NoAnswerReached):
        await outcome.answer()
    assert len(fallback.prompts) == 1
    assert outcome.waits == []


# --- prompts that are refused ---------------------------------------------------------------------


async def test_retry_after_is_limited() -> None:
    outcome = Outcome(Scripted("default", ModelUnavailable("busy", 9999.0), "answer"))
    assert await outcome.answer() == "answer"
    assert outcome.waits == [30.0]


async def test_too_long_prompt_drops_oldest_turns() -> None:
    long = ContextTooLong("too long")
    default = Scripted("default", long, long, "answer")
    assert await Outcome(default, history=HISTORY).answer() == "answer"
    lengths = [len(prompt) for prompt in default.prompts]
    assert lengths == sorted(set(lengths), reverse=True)
    assert lengths[0] == 14
    assert default.prompts[-1][1].role == "user"
    assert default.prompts[-1][-2].content.startswith("turn 11")


async def test_too_long_question_raises_context_too_long() -> None:
    history = (Turn("user", "before"), Turn("assistant", "then"))
    default = Scripted("default", ContextTooLong("too long"))
    with pytest.raises(ContextTooLong):
        await Outcome(default, history=history).answer()
    assert len(default.prompts[-1]) == 2


@pytest.mark.parametrize("refusal", [RequestRejected("HTTP 400"), ContentFiltered("HTTP 400")])
async def test_refused_prompt_is_retried_with_less_history(refusal: ModelFailure) -> None:
    default = Scripted("default", refusal, "answer")
    assert await Outcome(default, history=HISTORY).answer() == "answer"
    assert 2 < len(default.prompts[1]) < len(default.prompts[0]) == 14


async def test_refused_history_is_dropped() -> None:
    refusal = RequestRejected("HTTP 400")
    default = Scripted("default", refusal, refusal, "answer")
    assert await Outcome(default, history=HISTORY).answer() == "answer"
    assert [message.content for message in default.prompts[2]] == ["be kind", "question"]


async def test_refused_question_is_not_retried() -> None:
    default = Scripted("default", RequestRejected("HTTP 400"))
    with pytest.raises(RequestRejected):
        await Outcome(default, history=HISTORY).answer()
    assert [len(prompt) == 2 for prompt in default.prompts] == [False, False, True]


async def test_very_long_history_is_shortened_in_few_requests() -> None:
    history = tuple(Turn(("user", "assistant")[n % 2], "x" * 600) for n in range(400))
    default = Scripted("default", ContextTooLong("too long"), context_size=1_000_000)
    with pytest.raises(ContextTooLong):
        await Outcome(default, history=history).answer()
    assert len(default.prompts) <= 6
    assert len(default.prompts[-1]) == 2


async def test_fallback_with_longer_context_answers() -> None:
    default = Scripted("default", ContextTooLong("too long"))
    assert await Outcome(default, Scripted("fallback", "it fits")).answer() == "it fits"


async def test_too_long_message_is_reported_although_fallback_is_down() -> None:
    with pytest.raises(ContextTooLong):
        await Outcome(Scripted("default", ContextTooLong("too long")), Scripted("fallback", DOWN)).answer()


# --- marks of turns -------------------------------------------------------------------------------


async def test_end_of_turn_mark_is_removed_from_answer() -> None:
    steps: list[Step] = [
        OutputPiece("Paris."),
        OutputPiece("<|im_"),
        OutputPiece("end|>"),
        OutputPiece("\n<|im_start|>user\nAnd?"),
        End(),
    ]
    outcome = Outcome(Scripted("default", steps))
    assert await outcome.answer() == "Paris."
    assert set(outcome.shown) == {"Paris."}


def test_scripted_model_matches_interface() -> None:
    assert Scripted.stream.__annotations__ == ModelClient.stream.__annotations__
