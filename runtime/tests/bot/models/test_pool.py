"""Many people at models that fail: who is answered by which model, after how long, with how much work."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from clawd_runtime.bot.channels.base import NoProgress
from clawd_runtime.bot.models.answering import Answerer
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.models.completion import Health
from clawd_runtime.bot.models.dialect import ChatMessage, RequestOrigin
from clawd_runtime.bot.models.failures import (
    ConnectionLost,
    ModelFailure,
    ModelRefused,
    ModelUnavailable,
)
from clawd_runtime.bot.models.guarded import GuardedModel
from clawd_runtime.bot.models.pool import LOADING_SECONDS, PATIENCE_SECONDS, ModelPool
from clawd_runtime.bot.models.remote_policy import Asker, RemotePolicy
from clawd_runtime.bot.models.separation import End, OutputPiece
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.values import ConversationKey
from tests.bot.virtual_time import VIRTUAL_TIME

PEOPLE = 100


@pytest.fixture(scope="module")
def anyio_backend() -> Any:
    return VIRTUAL_TIME


def now() -> float:
    return asyncio.get_running_loop().time()


class Server:
    """A model whose state a test changes. It refuses more requests at once than it has places."""

    first_token_seconds: float | None = None
    token_gap_seconds = 60.0
    context_size = 4096
    streams = True

    def __init__(self, name: str, *, local: bool = False, places: int = 4, seconds: float = 2.0) -> None:
        self.name = self.label = name
        self.local = local
        self.state: Health = "ready"
        self.failure: ModelFailure = ModelUnavailable("connection refused")
        self.requests = 0
        self.answered = 0
        self.probes = 0
        self.poison = ""
        self.prompts: list[str] = []
        self._places = places
        self._busy = 0
        self._seconds = seconds

    async def health(self) -> Health:
        self.probes += 1
        return self.state

    async def stream(
        self, messages: Sequence[ChatMessage], max_tokens: int, origin: RequestOrigin | None = None
    ) -> AsyncGenerator[OutputPiece | End, None]:
        self.requests += 1
        self.prompts.append(messages[-1].content)
        if self.state != "ready":
            raise self.failure
        if self.poison and messages[-1].content == self.poison:
            self.state = "down"
            raise ConnectionLost("closed")
        self._busy += 1
        assert self._busy <= self._places, f"{self.name} was asked {self._busy} questions at once"
        try:
            await asyncio.sleep(self._seconds)
            self.answered += 1
            yield OutputPiece(f"{self.name} answers")
            yield End()
        finally:
            self._busy -= 1


class Scene:
    """People who ask; `answers` counts the models that answered, and None for an apology."""

    def __init__(self, *servers: Server, policies: Sequence[RemotePolicy] = (RemotePolicy(),) * 2) -> None:
        models = [
            GuardedModel(cast(Any, server), server._places, policy)
            for server, policy in zip(servers, policies, strict=False)
        ]
        self.pool = ModelPool(models)
        self.answerer = Answerer(self.pool, "be kind", 128, Metrics())
        self.answers: Counter[str | None] = Counter()
        self.last_at = 0.0

    async def ask(self, number: int = 0, question: str = "question", **who: Any) -> ModelAnswer | None:
        asker = Asker(number, ConversationKey("scripted", str(number)), f"user-{number}", **who)
        answer = None
        try:
            async with self.answerer.admission(asker) as admission:
                answer = await admission.answer((), question, NoProgress())
        except ModelFailure:
            pass
        self.answers[answer.source.model if answer and answer.source else None] += 1
        self.last_at = now()
        return answer

    async def ask_all(self, people: int = PEOPLE) -> None:
        await asyncio.gather(*(self.ask(number) for number in range(people)))


@asynccontextmanager
async def scene(*servers: Server, **options: Any) -> AsyncIterator[Scene]:
    made = Scene(*servers, **options)
    try:
        yield made
    finally:
        for model in made.pool.models:
            await model.close()


async def test_fallback_answers_100_people_while_engine_is_dead() -> None:
    engine, fallback = Server("default", local=True), Server("fallback", places=20)
    engine.state = "down"
    async with scene(engine, fallback) as people:
        await people.ask_all()
        assert people.answers == {"fallback": PEOPLE}
        assert engine.requests <= 4
        assert fallback.requests == PEOPLE
        assert people.last_at == pytest.approx(PEOPLE / 20 * 2.0)


async def test_fallback_answers_100_people_while_remote_default_is_dead() -> None:
    default, fallback = Server("default"), Server("fallback", places=20)
    default.state = "down"
    async with scene(default, fallback) as people:
        await people.ask_all()
        assert people.answers == {"fallback": PEOPLE}
        assert default.requests <= 8
        assert people.last_at <= PEOPLE / 20 * 2.0 + 2.0


async def test_100_people_get_the_apology_while_the_only_engine_is_dead() -> None:
    engine = Server("default", local=True)
    engine.state = "down"
    async with scene(engine) as people:
        await people.ask_all()
        assert people.answers == {None: PEOPLE}
        assert engine.requests <= 4
        assert people.last_at == pytest.approx(PATIENCE_SECONDS, abs=1.0)
        assert engine.probes <= 30
        before = now()
        assert await people.ask(101) is None
        assert now() - before <= 2.0


async def test_100_people_are_answered_when_the_engine_returns_in_time() -> None:
    engine = Server("default", local=True)
    engine.state = "down"
    async with scene(engine) as people:
        asking = asyncio.create_task(people.ask_all())
        await asyncio.sleep(20.0)
        engine.state = "ready"
        await asking
        assert people.answers == {"default": PEOPLE}
        assert engine.requests <= PEOPLE + 4
        assert people.last_at <= 20.0 + 4.0 + 2.0 + PEOPLE / 4 * 2.0


async def test_people_wait_for_a_model_that_loads_longer_than_their_patience() -> None:
    engine = Server("default", local=True)
    engine.state = "loading"
    async with scene(engine) as people:
        asking = asyncio.create_task(people.ask_all(10))
        await asyncio.sleep(LOADING_SECONDS / 2)
        engine.state = "ready"
        await asking
        assert people.answers == {"default": 10}


async def test_loading_model_that_dies_is_not_waited_for() -> None:
    engine = Server("default", local=True)
    engine.state = "loading"
    async with scene(engine) as people:
        asking = asyncio.create_task(people.ask_all(10))
        await asyncio.sleep(100.0)
        engine.state = "down"
        await asking
        assert people.answers == {None: 10}
        assert now() <= 110.0


async def test_people_who_wait_at_the_gate_change_to_the_fallback_when_the_engine_dies() -> None:
    engine, fallback = Server("default", local=True, seconds=10.0), Server("fallback", places=20)
    async with scene(engine, fallback) as people:
        asking = asyncio.create_task(people.ask_all(40))
        await asyncio.sleep(15.0)
        assert sum(model.gate.waiting for model in people.pool.models) == 32
        engine.state, engine.failure = "down", ConnectionLost("closed")
        await asking
        assert people.answers["default"] + people.answers["fallback"] == 40
        assert people.answers["default"] <= 8
        assert people.last_at <= 30.0
        engine.state = "ready"
        await asyncio.sleep(5.0)
        assert (await people.ask(99)) is not None
        assert people.answers["default"] == 9  # the engine is used again


async def test_slow_fallback_takes_no_place_from_the_engine() -> None:
    engine, fallback = Server("default", local=True), Server("fallback", places=1, seconds=200.0)
    async with scene(engine, fallback) as people:
        engine.state = "down"
        slow = [asyncio.create_task(people.ask(number)) for number in range(6)]
        await asyncio.sleep(2.0)
        engine.state = "ready"
        await asyncio.sleep(4.0)
        await people.ask(50)
        assert people.answers["default"] == 1
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)


async def test_question_that_crashes_the_engine_is_asked_twice_and_spares_others() -> None:
    engine = Server("default", local=True)
    engine.poison = "poison"

    async def restart() -> None:
        while True:
            await asyncio.sleep(3.0)
            engine.state = "ready"

    async with scene(engine) as people:
        restarting = asyncio.create_task(restart())
        await asyncio.gather(people.ask(0, "poison"), *(people.ask(number) for number in range(1, 20)))
        restarting.cancel()
        assert people.answers == {None: 1, "default": 19}
        assert engine.prompts.count("poison") == 2


async def test_refused_key_opens_the_breaker_at_once() -> None:
    default, fallback = Server("default"), Server("fallback", places=20)
    default.state, default.failure = "down", ModelRefused("HTTP 401")
    async with scene(default, fallback) as people:
        for number in range(10):
            await people.ask(number)
        assert people.answers == {"fallback": 10}
        assert default.requests == 1


async def test_only_one_request_is_made_to_a_model_that_responds_but_fails() -> None:
    """A provider whose list of models works, while its answers do not."""
    default, fallback = Server("default"), Server("fallback", places=50)

    async def ready() -> Health:
        return "ready"

    default.state = "down"
    default.health = ready  # type: ignore[method-assign]
    async with scene(default, fallback) as people:
        for _ in range(5):
            await people.ask_all(20)
            await asyncio.sleep(60.0)
        assert people.answers == {"fallback": 100}
        assert default.requests <= 4 + 5 + 2 * 10


# --- what may leave the house ---------------------------------------------------------------------


async def test_private_group_is_not_sent_to_the_remote_fallback() -> None:
    engine, fallback = Server("default", local=True), Server("fallback")
    engine.state = "down"
    policy = RemotePolicy(groups=frozenset())
    async with scene(engine, fallback, policies=(RemotePolicy(), policy)) as people:
        assert await people.ask(1, "secret", chat_kind="group") is None
        assert await people.ask(2, "hello", chat_kind="private") is not None
        assert fallback.prompts == ["hello"]


async def test_prompt_to_the_remote_fallback_is_redacted_and_its_answer_marked() -> None:
    engine, fallback = Server("default", local=True), Server("fallback")
    policy = RemotePolicy(redact=("email", "phone"), marks=True)
    async with scene(engine, fallback, policies=(RemotePolicy(), policy)) as people:
        text = "write to ada@example.com or call +86 138 0013 8000"
        answer = await people.ask(1, text)
        assert answer is not None
        assert answer.source is not None
        assert (answer.source.mark, engine.prompts) == ("", [text])
        engine.state = "down"
        answer = await people.ask(2, text)
        assert answer is not None
        assert answer.source is not None
        assert answer.source.mark == "fallback"
        assert fallback.prompts == ["write to [email] or call [phone]"]


async def test_no_model_is_asked_for_a_conversation_that_none_may_answer() -> None:
    default = Server("default")
    async with scene(default, policies=(RemotePolicy(channels=frozenset({"feishu"})),)) as people:
        assert await people.ask() is None
        assert (default.requests, now()) == (0, 0.0)
