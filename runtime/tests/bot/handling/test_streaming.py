"""Growing answers in recorded messages, with a real store."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clawd_runtime.bot.channels.base import (
    AnswerProgress,
    DeliveryUnknown,
    RetryLater,
    StreamGone,
    Streaming,
    Undeliverable,
)
from clawd_runtime.bot.handling import deliverer, streaming, worker
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.text.messages import EN
from clawd_runtime.bot.values import Inbound, Piece, Reply, SentRef, Shown
from tests.bot.scripted import Chain, ScriptedChannel, message, running


class GrowingChannel(ScriptedChannel):
    """A platform whose messages can be changed. `messages` are the texts that each has had."""

    def __init__(self, *outcomes: Exception | None) -> None:
        super().__init__(*outcomes)
        self.messages: list[list[str]] = []
        self.faults: dict[str, list[Exception]] = {}
        self.folder: Path | None = None
        self.records: list[tuple[Any, ...]] = []
        self.opening = asyncio.Event()
        self.numbers: list[int] = []

    def streaming(self, inbound: Inbound) -> Streaming | None:
        return Streaming(0.01)

    async def open(self, inbound: Inbound, shown: Shown, piece: Piece) -> str:
        self._record()
        self.opening.set()
        self._fail("open")
        self.messages.append([piece.text])
        self._fail("opened")
        return str(len(self.messages))

    async def update(self, inbound: Inbound, shown: Shown, piece: Piece) -> None:
        self._record()
        self.numbers.append(shown.sequence)
        self._fail("update")
        self.messages[int(shown.ref) - 1].append(piece.text)

    async def send(self, reply: Reply) -> SentRef:
        if reply.shown is None:
            sent = await super().send(reply)
            self.messages.append([reply.text])
            return sent
        self.attempts.append(reply)
        self.numbers.append(reply.shown.sequence)
        self._fail("complete")
        self.messages[int(reply.shown.ref) - 1].append(reply.text)
        self._fail("completed")
        return SentRef(reply.shown.ref)

    @property
    def visible(self) -> list[str]:
        return [texts[-1] for texts in self.messages]

    def _fail(self, call: str) -> None:
        if faults := self.faults.get(call):
            raise faults.pop(0)

    def _record(self) -> None:
        """Note the record of the stream at the moment of a call."""
        if self.folder is not None:
            self.records += rows(self.folder)


class IdempotentGrowingChannel(GrowingChannel):
    """A platform that returns the same message when it is opened again."""

    idempotent_for = 3600.0

    async def prepare(self, inbound: Inbound, piece: Piece) -> str:
        return "1"

    async def open(self, inbound: Inbound, shown: Shown, piece: Piece) -> str:
        if self.messages:
            return shown.ref
        return await super().open(inbound, shown, piece)


def rows(folder: Path) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(folder / "bot.db")
    try:
        return connection.execute("SELECT ref, sequence, state FROM streams").fetchall()
    finally:
        connection.close()


class Pieces:
    """A model that shows its pieces one by one, as the test requests."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = pieces
        self.go_on = [asyncio.Event() for _ in pieces]
        self.asked = 0

    async def answer(self, history: tuple[Turn, ...], question: str, progress: AnswerProgress) -> ModelAnswer:
        self.asked += 1
        for piece, event in zip(self.pieces, self.go_on, strict=True):
            progress.show(piece)
            await event.wait()
        return ModelAnswer(self.pieces[-1])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "OPEN_AFTER", 0.0)
    monkeypatch.setattr(deliverer, "backoff", lambda failures: 0.01)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def finish(model: Pieces) -> None:
    for event in model.go_on:
        event.set()


async def test_answer_grows_in_one_message_that_the_reply_completes(tmp_path: Path) -> None:
    channel, model = GrowingChannel(), Pieces("one", "one two", "one two three")
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await until(lambda: channel.messages == [["one"]])
        model.go_on[0].set()
        await until(lambda: channel.messages == [["one", "one two"]])
        finish(model)
        await chain.settled()
        assert [turn.text for turn in await chain.store.recall(message("1").conversation)][1:] == [
            "one two three"
        ]
    assert channel.visible == ["one two three"]
    assert channel.numbers == sorted(set(channel.numbers))
    assert [state for _, _, state in rows(tmp_path)] == ["ended"]


async def test_stream_is_recorded_before_anything_is_visible(tmp_path: Path) -> None:
    channel, model = GrowingChannel(), Pieces("one", "one two")
    channel.folder = tmp_path
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await until(lambda: channel.messages == [["one"]])
        model.go_on[0].set()
        await until(lambda: channel.messages == [["one", "one two"]])
        finish(model)
        await chain.settled()
    assert channel.records == [("", 0, "opening"), ("1", 2, "open")]


async def test_quick_answer_is_one_message_without_a_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "OPEN_AFTER", 60.0)
    channel, model = GrowingChannel(), Pieces("one", "one two")
    finish(model)
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await chain.settled()
    assert channel.messages == [["one two"]]
    assert rows(tmp_path) == []


async def test_restart_continues_the_same_message(tmp_path: Path) -> None:
    channel, model = GrowingChannel(), Pieces("one", "one two")
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await until(lambda: channel.messages == [["one"]])
    again = Pieces("another", "another answer")
    finish(again)
    async with running(Chain(tmp_path, channel, answerer=again)) as chain:
        await chain.settled()
    assert channel.visible == ["another answer"]
    assert again.asked == 1


@pytest.mark.parametrize("kind", [GrowingChannel, IdempotentGrowingChannel])
async def test_lost_response_to_first_piece_loses_no_answer(
    tmp_path: Path, kind: type[GrowingChannel]
) -> None:
    channel, model = kind(), Pieces("one", "one two")
    channel.faults = {"opened": [DeliveryUnknown("time-out")]}
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await until(lambda: channel.messages)
        finish(model)
        await chain.settled()
    left = ["one"] if kind is GrowingChannel else []
    assert channel.visible == [*left, "one two"]


async def test_refused_stream_does_not_affect_answer(tmp_path: Path) -> None:
    channel, model = GrowingChannel(), Pieces("one", "one two", "one two three")
    channel.faults = {"open": [Undeliverable("no permission")]}
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await until(channel.opening.is_set)
        finish(model)
        await chain.settled()
    assert channel.messages == [["one two three"]]


async def test_rate_limited_piece_does_not_delay_answer(tmp_path: Path) -> None:
    channel, model = GrowingChannel(), Pieces("one", "one two")
    channel.faults = {"update": [RetryLater("429", 3600.0)]}
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await until(lambda: channel.messages == [["one"]])
        model.go_on[0].set()
        await until(lambda: channel.numbers)
        finish(model)
        await chain.settled(5.0)
    assert channel.visible == ["one two"]


@pytest.mark.parametrize("call", ["complete", "completed"])
async def test_completion_is_repeated_after_lost_response(tmp_path: Path, call: str) -> None:
    """Completing a known message again has no further effect, so nothing is doubtful."""
    channel, model = GrowingChannel(), Pieces("one", "one two")
    channel.faults = {call: [DeliveryUnknown("time-out"), ConnectionError()]}
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await until(lambda: channel.messages)
        finish(model)
        await chain.settled()
        assert dict((await chain.store.depths()).outbox) == {}
    assert channel.visible == ["one two"]
    assert len(channel.attempts) == 3


async def test_completion_whose_outcome_stays_unknown_is_given_up(tmp_path: Path) -> None:
    now = 1_000_000.0
    channel, model = GrowingChannel(), Pieces("one", "one two")
    channel.faults = {"complete": [DeliveryUnknown("502") for _ in range(5)]}
    async with running(Chain(tmp_path, channel, answerer=model, clock=lambda: now)) as chain:
        await chain.store.store(message("1"))
        await until(lambda: channel.messages)
        finish(model)
        await until(lambda: channel.attempts)
        now += deliverer.GIVE_UP_AFTER + 1
        await chain.settled(5.0)
        assert dict((await chain.store.depths()).outbox) == {"doubtful": 1}


async def test_answer_is_a_new_message_when_the_growing_one_is_gone(tmp_path: Path) -> None:
    channel, model = GrowingChannel(), Pieces("one", "one two")
    channel.faults = {"complete": [StreamGone("deleted by an administrator")]}
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await until(lambda: channel.messages)
        finish(model)
        await chain.settled()
        assert dict((await chain.store.depths()).outbox) == {}
    assert channel.texts == ["one two"]
    assert [state for _, _, state in rows(tmp_path)] == ["lost"]


async def test_waiting_notice_is_updated_and_becomes_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "NOTICE_AFTER", 0.01)
    monkeypatch.setattr(worker, "NOTICE_EVERY", 0.01)
    go_on = {chat: asyncio.Event() for chat in "abc"}

    async def answer(history: tuple[Turn, ...], question: str) -> str:
        await go_on[question].wait()
        return f"re: {question}"

    channel = GrowingChannel()
    async with running(Chain(tmp_path, channel, answer=answer, at_once=1)) as chain:
        for chat in "abc":
            await chain.store.store(message(chat, chat, chat=chat, user=chat))
        await until(lambda: len(channel.messages) == 2)
        go_on["a"].set()
        await until(lambda: any(len(texts) == 2 for texts in channel.messages))
        go_on["b"].set()
        go_on["c"].set()
        await chain.settled()
    second, third = (next(texts for texts in channel.messages if texts[-1] == f"re: {chat}") for chat in "bc")
    assert second[0] == EN.waiting.format(ahead=1)
    assert third[:2] == [EN.waiting.format(ahead=2), EN.waiting.format(ahead=1)]
    assert sorted(channel.visible) == ["re: a", "re: b", "re: c"]


async def test_failure_of_model_replaces_the_growing_answer(tmp_path: Path) -> None:
    class Failing(Pieces):
        async def answer(
            self, history: tuple[Turn, ...], question: str, progress: AnswerProgress
        ) -> ModelAnswer:
            await super().answer(history, question, progress)
            raise RuntimeError("a bug")

    channel, model = GrowingChannel(), Failing("one", "one two")
    async with running(Chain(tmp_path, channel, answerer=model)) as chain:
        await chain.store.store(message("1"))
        await until(lambda: channel.messages)
        finish(model)
        await chain.settled()
    assert channel.visible == [EN.model_failed]


@pytest.mark.parametrize("text", ["next", "/help"])
async def test_user_of_doubtful_answer_is_informed_at_the_next_message_once(
    tmp_path: Path, text: str
) -> None:
    channel = ScriptedChannel(DeliveryUnknown("time-out"))
    async with running(Chain(tmp_path, channel)) as chain:
        await chain.store.store(message("1", "first"))
        await chain.settled()
        await chain.store.store(message("2", text))
        await chain.settled()
        await chain.store.store(message("3", "last"))
        await chain.settled()
        history = await chain.store.recall(message("1").conversation)
    informed, following = channel.texts
    assert informed.endswith(f"\n\n{EN.earlier_in_doubt}")
    assert following == "re: last"
    assert not any(EN.earlier_in_doubt in turn.text for turn in history)
