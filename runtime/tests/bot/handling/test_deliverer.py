"""Delivery from the outbox to a channel, with a real store."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from clawd_runtime.bot.channels.base import DeliveryUnknown, RetryLater, Undeliverable
from clawd_runtime.bot.handling import deliverer, keyed_queue
from clawd_runtime.bot.handling.backoff import backoff
from clawd_runtime.bot.handling.replies import replies_to
from clawd_runtime.bot.store.backends.database import open_database
from clawd_runtime.bot.store.inbox import Task
from clawd_runtime.bot.store.store import Settlement, Store
from clawd_runtime.bot.values import Content, ConversationKey, Reply, SentRef
from clawd_runtime.errors import StoreError
from tests.bot.scripted import Chain, IdempotentChannel, ScriptedChannel, message, running


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


async def _deliver(folder: Path, channel: ScriptedChannel, *events: str) -> dict[str, int]:
    async with running(Chain(folder, channel)) as chain:
        for event in events:
            await chain.store.store(message(event, event))
        await chain.settled()
        return dict((await chain.store.depths()).outbox)


async def test_undelivered_reply_is_retried_with_same_key(tmp_path: Path) -> None:
    channel = ScriptedChannel(RetryLater("429", 0.02), RetryLater("refused", 0.01))
    assert await _deliver(tmp_path, channel, "1") == {}
    assert channel.texts == ["re: 1"]
    assert len({reply.key for reply in channel.attempts}) == 1
    assert [reply.attempt for reply in channel.attempts] == [1, 2, 3]


async def test_replies_of_a_conversation_are_sent_in_order(tmp_path: Path) -> None:
    channel = ScriptedChannel(RetryLater("429", 0.1))
    await _deliver(tmp_path, channel, "1", "2")
    assert channel.texts == ["re: 1", "re: 2"]


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Undeliverable("blocked"), "dead"),
        (DeliveryUnknown("time-out"), "doubtful"),
        (KeyError("a bug"), "doubtful"),
    ],
)
async def test_unrepeatable_delivery_is_recorded(tmp_path: Path, outcome: Exception, state: str) -> None:
    channel = ScriptedChannel(outcome)
    assert await _deliver(tmp_path, channel, "1", "2") == {state: 1}
    assert len(channel.attempts) == 2
    assert channel.texts == ["re: 2"]


async def test_doubtful_delivery_is_repeated_while_key_is_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "backoff", lambda failures: 0.01)
    channel = IdempotentChannel(DeliveryUnknown("time-out"), ConnectionError())
    assert await _deliver(tmp_path, channel, "1") == {}
    assert [reply.attempt for reply in channel.attempts] == [1, 2, 3]


async def test_delivery_stays_doubtful_after_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first attempt may have arrived; the platform is down until it no longer recognises the key."""
    monkeypatch.setattr(deliverer, "backoff", lambda failures: 0.01)
    clock = Clock()

    class Away(IdempotentChannel):
        async def send(self, reply: Reply) -> SentRef:
            if reply.attempt == 3:
                clock.now += self.idempotent_for
            return await super().send(reply)

    channel = Away(DeliveryUnknown("time-out"), RetryLater("refused", 0.01), RetryLater("refused", 0.01))

    async with running(Chain(tmp_path, channel, clock=clock)) as chain:
        await chain.store.store(message("1"))
        await chain.settled()
        assert dict((await chain.store.depths()).outbox) == {"doubtful": 1}
    assert [reply.attempt for reply in channel.attempts] == [1, 2, 3]


async def test_doubtful_delivery_is_resolved_after_refusals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "backoff", lambda failures: 0.01)
    channel = IdempotentChannel(DeliveryUnknown("time-out"), RetryLater("refused", 0.01))
    assert await _deliver(tmp_path, channel, "1") == {}
    assert channel.texts == ["re: 1"]


async def _resumed(
    folder: Path, channel: ScriptedChannel, pause: float, *, postponed: bool
) -> dict[str, int]:
    """End a run before a delivery, or between two attempts; start the next one `pause` seconds later."""
    clock = Clock()
    database = open_database(f"sqlite:///{folder}/bot.db")
    store = Store(database, clock)
    await store.join(1, (channel.name,))
    await store.store(message("1"))
    task = await store.take(1)
    assert isinstance(task, Task)
    await store.settle(task, Settlement("answered", replies_to(task.inbound, channel, "answer")))
    [(id, _)] = (await store.unfinished()).replies
    if postponed:
        await store.begin_sending(id)
        await store.postpone(id, clock.now + 5.0, "429")
    database.close()
    clock.now += pause
    async with running(Chain(folder, channel, clock=clock)) as chain:
        await chain.settled(5.0)
        return dict((await chain.store.depths()).outbox)


async def test_clock_set_back_does_not_delay_first_attempt(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    assert await _resumed(tmp_path, channel, -86_400.0, postponed=False) == {}
    assert channel.texts == ["answer"]


async def test_clock_set_back_does_not_delay_retries(tmp_path: Path) -> None:
    clock, channel = Clock(), ScriptedChannel(RetryLater("429", 0.1))

    async with running(Chain(tmp_path, channel, clock=clock)) as chain:
        await chain.store.store(message("1"))
        while not chain.count("clawd_deliveries_total", outcome="retried"):
            await asyncio.sleep(0.005)
        clock.now -= 3600.0
        await chain.settled(5.0)
    assert channel.texts == ["re: hello"]


async def test_host_that_was_off_for_days_retries(tmp_path: Path) -> None:
    """Its network is up later than the bot."""
    channel = ScriptedChannel(RetryLater("ConnectError", 0.01), RetryLater("ConnectError", 0.01))
    pause = 2 * deliverer.GIVE_UP_AFTER
    assert await _resumed(tmp_path, channel, pause, postponed=False) == {}
    assert channel.texts == ["answer"]


async def _interrupted(folder: Path, channel: ScriptedChannel, pause: float) -> dict[str, int]:
    """End a run during a delivery; start the next one `pause` seconds later."""
    clock = Clock()
    database = open_database(f"sqlite:///{folder}/bot.db")
    store = Store(database, clock)
    await store.join(1, (channel.name,))
    await store.store(message("1"))
    task = await store.take(1)
    assert isinstance(task, Task)
    await store.settle(task, Settlement("answered", replies_to(task.inbound, channel, "answer")))
    [(id, _)] = (await store.unfinished()).replies
    await store.begin_sending(id)
    database.close()
    clock.now += pause
    async with running(Chain(folder, channel, clock=clock)) as chain:
        await chain.settled()
        return dict((await chain.store.depths()).outbox)


async def test_interrupted_delivery_without_key_is_doubtful(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    assert await _interrupted(tmp_path, channel, 1.0) == {"doubtful": 1}
    assert channel.attempts == []


async def test_interrupted_delivery_with_recognised_key_is_repeated(tmp_path: Path) -> None:
    channel = IdempotentChannel()
    assert await _interrupted(tmp_path, channel, 3400.0) == {}
    assert channel.texts == ["answer"]


async def test_interrupted_delivery_with_expired_key_is_doubtful(tmp_path: Path) -> None:
    channel = IdempotentChannel()
    assert await _interrupted(tmp_path, channel, 3500.0) == {"doubtful": 1}
    assert channel.attempts == []


class Release(ScriptedChannel):
    """A channel whose releases make other messages of the same answer."""

    def __init__(self, name: str, *outcomes: Exception | None) -> None:
        super().__init__(*outcomes)
        self.release = name

    def formatted(self, markdown: str, notes: str = "") -> tuple[Content, ...]:
        size = len(self.release)
        parts = [markdown[at : at + size] for at in range(0, len(markdown), size)]
        return tuple(Content(part, f"{self.release} {part}") for part in parts)


async def test_upgrade_between_two_parts_changes_neither_borders_nor_formatting(tmp_path: Path) -> None:
    first, second = Release("old", None, RetryLater("429", 30.0)), Release("newer")
    async with running(Chain(tmp_path, first)) as chain:
        await chain.store.store(message("1", "abcde"))
        while len(first.attempts) < 2:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
    async with running(Chain(tmp_path, second, clock=lambda: time.time() + 60.0)) as chain:
        await chain.settled()
    sent = [*first.sent, *second.sent]
    assert [reply.text for reply in sent] == ["re:", " ab", "cde"]
    assert [reply.formatting for reply in sent] == ["old re:", "old  ab", "old cde"]
    assert (len(first.sent), len({reply.key for reply in sent})) == (1, 3)


@pytest.mark.parametrize(("call", "outcome"), [("postpone", RetryLater("429", 0.01)), ("finish", None)])
async def test_outcome_is_recorded_when_disk_has_space_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, outcome: Exception | None
) -> None:
    monkeypatch.setattr(deliverer, "RECORD_AGAIN_AFTER", 0.01, raising=False)
    monkeypatch.setattr(keyed_queue, "RETRY_AFTER_FAULT", 0.01)
    channel = ScriptedChannel(outcome)

    async with running(Chain(tmp_path, channel)) as chain:
        record, failures = getattr(chain.store, call), iter(range(3))

        async def failing(*arguments: Any, **more: Any) -> None:
            if next(failures, None) is not None:
                raise StoreError("the disk is full")
            await record(*arguments, **more)

        monkeypatch.setattr(chain.store, call, failing)
        await chain.store.store(message("1"))
        await chain.settled()
        assert dict((await chain.store.depths()).outbox) == {}
    assert channel.texts == ["re: hello"]


class Hanging(ScriptedChannel):
    """A platform that hangs."""

    name = "hanging"

    async def send(self, reply: Reply) -> SentRef:
        self.attempts.append(reply)
        await asyncio.sleep(3600)
        raise AssertionError


async def test_hanging_platform_does_not_delay_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "SENT_AT_ONCE", 4)
    hanging, fine = Hanging(), ScriptedChannel()

    async with running(Chain(tmp_path, hanging, fine)) as chain:
        for number in range(10):
            conversation = ConversationKey("hanging", str(number))
            await chain.store.store(message(f"h{number}", conversation=conversation))
        while len(hanging.attempts) < 4:
            await asyncio.sleep(0.01)
        await chain.store.store(message("1"))
        async with asyncio.timeout(5.0):
            while not fine.sent:
                await asyncio.sleep(0.01)
        assert len(hanging.attempts) == 4


async def test_recorded_but_unmade_attempt_is_not_doubtful(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection broke at the commit that records the attempt: it is recorded but was not made."""
    monkeypatch.setattr(keyed_queue, "RETRY_AFTER_FAULT", 0.01)
    channel = ScriptedChannel()

    async with running(Chain(tmp_path, channel)) as chain:
        record, failures = chain.store.begin_sending, iter(range(2))

        async def failing(id: int) -> bool:
            begun = await record(id)
            if next(failures, None) is not None:
                raise StoreError("the connection is lost")
            return begun

        monkeypatch.setattr(chain.store, "begin_sending", failing)
        await chain.store.store(message("1"))
        await chain.settled()
        assert dict((await chain.store.depths()).outbox) == {}
    assert channel.texts == ["re: hello"]


async def test_suspended_bot_checks_again_before_sending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, channel = Clock(), ScriptedChannel()
    began: list[int] = []

    async with running(Chain(tmp_path, channel, clock=clock)) as chain:
        record = chain.store.begin_sending

        async def frozen(id: int) -> bool:
            begun = await record(id)
            if not began:
                clock.now += deliverer.STOOD_STILL + 1
                assert channel.attempts == []
            began.append(id)
            return begun

        monkeypatch.setattr(chain.store, "begin_sending", frozen)
        await chain.store.store(message("1"))
        await chain.settled()
        assert dict((await chain.store.depths()).outbox) == {}
    assert len(began) == 2
    assert channel.texts == ["re: hello"]


async def test_suspended_bot_keeps_delivery_doubtful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliverer, "backoff", lambda failures: 0.01)
    clock, channel = Clock(), IdempotentChannel(DeliveryUnknown("time-out"))

    async with running(Chain(tmp_path, channel, clock=clock)) as chain:
        record = chain.store.begin_sending

        async def frozen(id: int) -> bool:
            begun = await record(id)
            clock.now += channel.idempotent_for if channel.attempts else 0.0
            return begun

        monkeypatch.setattr(chain.store, "begin_sending", frozen)
        await chain.store.store(message("1"))
        await chain.settled()
        assert dict((await chain.store.depths()).outbox) == {"doubtful": 1}
    assert len(channel.attempts) == 1


async def test_delivery_is_given_up_after_a_day(tmp_path: Path) -> None:
    clock = Clock()
    channel = ScriptedChannel(*(RetryLater("429", 0.01) for _ in range(5)))

    async with running(Chain(tmp_path, channel, clock=clock)) as chain:
        await chain.store.store(message("1"))
        while not channel.attempts:
            await asyncio.sleep(0.005)
        clock.now += deliverer.GIVE_UP_AFTER + 1
        await chain.settled()
        assert dict((await chain.store.depths()).outbox) == {"dead": 1}
    assert channel.sent == []


def test_backoff_doubles_up_to_five_minutes() -> None:
    assert [backoff(failures) for failures in (1, 2, 3, 9, 10, 1000)] == [1, 2, 4, 256, 300, 300]
