"""Handling of messages from inbox to outbox, with a real store."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clawd_runtime.bot.channels.base import AnswerProgress, NoProgress
from clawd_runtime.bot.handling import keyed_queue, worker
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.models.chat_chunks import Cut
from clawd_runtime.bot.models.failures import (
    ContentFiltered,
    ContextTooLong,
    ModelUnavailable,
    NoAnswerReached,
    RequestRejected,
)
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.store.inbox import Task
from clawd_runtime.bot.store.store import Settlement
from clawd_runtime.bot.text.messages import EN, ZH, Messages
from clawd_runtime.bot.values import ConversationKey, Inbound, MessagePart, Quote, reply_key
from clawd_runtime.errors import ChannelError, StoreError, StoreRefused
from tests.bot.scripted import Chain, ScriptedChannel, message, running

History = tuple[Turn, ...]


async def test_answer_is_split_and_sent_to_its_conversation(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=lambda *_: "one|two")) as chain:
        await chain.store.store(message("e1"))
        await chain.settled()
        assert chain.count("clawd_messages_total", outcome="answered") == 1
        assert chain.count("clawd_deliveries_total", outcome="sent") == 2
    assert [(r.text, r.part, r.parts, r.reply_to) for r in channel.sent] == [
        ("one", 0, 2, "e1"),
        ("two", 1, 2, "e1"),
    ]
    assert [reply.key for reply in channel.sent] == [reply_key("scripted", "e1", part) for part in (0, 1)]
    assert len({reply.key for reply in channel.sent}) == 2
    assert all(len(reply.key) <= 50 for reply in channel.sent)


async def test_conversations_are_concurrent_and_ordered(tmp_path: Path) -> None:
    running_now: Counter[str] = Counter()
    most = 0

    async def answer(history: History, question: str) -> str:
        nonlocal most
        chat, number = question.split()
        assert [turn.text for turn in history if turn.role == "user"] == [
            f"{chat} {n}" for n in range(int(number))
        ]
        running_now[chat] += 1
        assert running_now[chat] == 1
        most = max(most, running_now.total())
        await asyncio.sleep(0.002)
        running_now[chat] -= 1
        return f"{chat} {number}"

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer, at_once=3)) as chain:
        events = [(chat, n) for n in range(6) for chat in ("a", "b", "c", "d", "e")]
        await asyncio.gather(
            *(chain.store.store(message(f"{chat}{n}", f"{chat} {n}", chat=chat)) for chat, n in events)
        )
        await chain.settled()
    assert most == 3
    for chat in "abcde":
        assert [text for text in channel.texts if text.startswith(chat)] == [f"{chat} {n}" for n in range(6)]


@pytest.mark.parametrize(
    ("failure", "outcome", "words"),
    [
        (ModelUnavailable("down"), "model_failed", EN.model_failed),
        (ContextTooLong("long"), "too_long", EN.too_long),
        (RequestRejected("HTTP 400"), "model_failed", EN.rejected),
        (NoAnswerReached("length"), "only_reasoning", EN.only_reasoning),
        (ContentFiltered("filtered"), "filtered", EN.filtered),
        (RuntimeError("a bug"), "failed", EN.model_failed),
    ],
)
async def test_model_failure_is_answered_and_not_stored_in_history(
    tmp_path: Path, failure: Exception, outcome: str, words: str
) -> None:
    histories: list[History] = []

    def answer(history: History, question: str) -> str:
        histories.append(history)
        if question == "fails":
            raise failure
        return "fine"

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer)) as chain:
        await chain.store.store(message("1", "fails"))
        await chain.store.store(message("2", "works"))
        await chain.settled()
        assert chain.count("clawd_messages_total", outcome=outcome) == 1
    assert channel.texts == [words, "fine"]
    assert histories == [(), ()]


@pytest.mark.parametrize("cut", ["length", "filtered", "broken"])
@pytest.mark.parametrize(("question", "words"), [("Why?", EN), ("为什么？", ZH)])
async def test_note_on_cut_answer_is_translated_and_not_in_history(
    tmp_path: Path, cut: Cut, question: str, words: Messages
) -> None:
    histories: list[History] = []

    def answer(history: History, question: str) -> ModelAnswer:
        histories.append(history)
        return ModelAnswer("Because", cut)

    marks = {"length": words.cut_length, "filtered": words.cut_filtered, "broken": words.cut_broken}
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer, language="auto")) as chain:
        await chain.store.store(message("1", question))
        await chain.store.store(message("2", question))
        await chain.settled()
    assert channel.texts == [f"Because\n\n{marks[cut]}"] * 2
    assert histories[1] == (Turn("user", question), Turn("assistant", "Because"))


async def test_channel_is_notified_of_ignored_message(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, limit=1)) as chain:
        for event in ("1", "2", "3"):
            await chain.store.store(message(event))
        await chain.store.store(message("4", chat_kind="group", addressed=False))
        await chain.settled()
        assert channel.shown == 1
    assert channel.texts == ["re: hello", EN.rate_limited.format(limit=1)]
    assert sorted(channel.unanswered) == ["3", "4"]


async def test_waiting_messages_show_no_typing_and_load_no_history(tmp_path: Path) -> None:
    """Waiting messages neither show "typing" nor keep their histories in memory."""
    go_on = asyncio.Event()

    async def answer(history: History, question: str) -> str:
        await go_on.wait()
        return question

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer, at_once=2)) as chain:
        for number in range(6):
            await chain.store.store(message(str(number), chat=str(number)))
        await asyncio.sleep(0.1)
        assert channel.shown == 2
        go_on.set()
        await chain.settled()
        assert channel.shown == 6


@pytest.mark.parametrize("broken", ["split", "answering"])
async def test_internal_error_is_answered_with_apology(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    monkeypatch.setattr(keyed_queue, "RETRY_AFTER_FAULT", 0.01)
    tried = 0

    class Faulty(ScriptedChannel):
        def split(self, text: str) -> tuple[str, ...]:
            nonlocal tried
            if broken == "split" and text in ("re: first", EN.model_failed):
                tried += 1
                raise UnicodeEncodeError("utf-8", text, 0, 1, "a bug")
            return super().split(text)

        @asynccontextmanager
        async def answering(self, inbound: Inbound) -> AsyncIterator[AnswerProgress]:
            nonlocal tried
            if broken == "answering" and inbound.text == "first":
                tried += 1
                raise KeyError("a bug")
            yield NoProgress()

    channel = Faulty()
    async with running(Chain(tmp_path, channel)) as chain:
        await chain.store.store(message("1", "first"))
        await chain.store.store(message("2", "second"))
        await chain.settled()
        assert chain.count("clawd_messages_total", outcome="failed") == 1
    assert channel.texts == [EN.model_failed, "re: second"]
    assert tried <= 3


async def test_lone_surrogate_from_user_is_answered(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel)) as chain:
        await chain.store.store(message("1", "a\ud83d", reply_to="\udc00"))
        await chain.settled()
    assert channel.texts == ["re: a\ufffd"]


async def test_new_command_resets_history(tmp_path: Path) -> None:
    def answer(history: History, question: str) -> str:
        return f"{len(history)} before"

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer)) as chain:
        for event, text in enumerate(("a", "b", "/new", "c")):
            await chain.store.store(message(str(event), text))
        await chain.settled()
    assert channel.texts == ["0 before", "2 before", EN.new_conversation, "0 before"]


async def test_restart_resumes_unfinished_messages_once(tmp_path: Path) -> None:
    async def hang(history: History, question: str) -> str:
        await asyncio.sleep(60)
        return "never"

    async def second() -> list[str]:
        channel = ScriptedChannel()
        async with running(Chain(tmp_path, channel)) as chain:
            assert not await chain.store.store(message("2"))
            await chain.settled()
        return channel.texts

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=hang)) as chain:
        for event in ("1", "2", "3"):
            await chain.store.store(message(event, f"question {event}"))
    assert channel.texts == []
    assert await second() == ["re: question 1", "re: question 2", "re: question 3"]
    assert await second() == []


async def test_messages_of_unconfigured_channel_stay_stored(tmp_path: Path) -> None:
    async with running(Chain(tmp_path, ScriptedChannel())) as chain:
        await chain.store.store(message("1", conversation=ConversationKey("elsewhere", "1")))
        await chain.store.store(message("2"))
        while (depths := await chain.store.depths()).inbox > 1 or depths.outbox:
            await asyncio.sleep(0.005)
    assert depths.inbox == 1


async def test_full_disk_counts_and_asks_message_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyed_queue, "RETRY_AFTER_FAULT", 0.01)
    asked: list[str] = []

    def answer(history: History, question: str) -> str:
        asked.append(question)
        return f"re: {question}"

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer, limit=2)) as chain:
        settle, failures = chain.store.settle, iter(range(5))

        async def failing(task: Task, settlement: Settlement) -> bool:
            if next(failures, None) is not None:
                raise StoreError("the disk is full")
            return await settle(task, settlement)

        monkeypatch.setattr(chain.store, "settle", failing)
        await chain.store.store(message("1", "first"))
        await chain.store.store(message("2", "second"))
        await chain.settled()
    assert channel.texts == ["re: first", "re: second"]
    assert asked == ["first", "second"]


@pytest.mark.parametrize(
    ("refused", "texts", "outcome"), [(3, [EN.model_failed], "failed"), (6, [], "failed")]
)
async def test_answer_refused_by_database_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int, texts: list[str], outcome: str
) -> None:
    """First the answer, then the apology: a reply that cannot be stored must not block the conversation."""
    monkeypatch.setattr(keyed_queue, "RETRY_AFTER_FAULT", 0.001)
    asked: list[str] = []

    def answer(history: History, question: str) -> str:
        asked.append(question)
        return f"re: {question}"

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer)) as chain:
        settle, failures = chain.store.settle, iter(range(refused))

        async def refusing(task: Task, settlement: Settlement) -> bool:
            if next(failures, None) is not None:
                raise StoreRefused("value too long")
            return await settle(task, settlement)

        monkeypatch.setattr(chain.store, "settle", refusing)
        await chain.store.store(message("1", "first"))
        await chain.settled()
        assert chain.count("clawd_messages_total", outcome=outcome) == 1
        assert chain.metrics.registry.get_sample_value("clawd_store_faults_total") == refused
        await chain.store.store(message("2", "second"))
        await chain.settled()
    assert channel.texts == [*texts, "re: second"]
    assert asked == ["first", "second"]


async def test_waiting_messages_are_released_when_bot_stops(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def answer(history: History, question: str) -> str:
        await go_on.wait()
        return question

    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=answer, at_once=1)) as chain:
        for number in range(4):
            await chain.store.store(message(str(number), chat=str(number)))
        while not channel.shown:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        kept = chain.worker.begin_nothing()
        go_on.set()
        await chain.worker.stop(1.0)
        assert (list(channel.texts), len(kept))[1] == 1


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


class ShowsWaiting(ScriptedChannel):
    """A channel that records what a waiting user sees."""

    def __init__(self) -> None:
        super().__init__()
        self.signs: list[str] = []
        self.notices: list[str] = []

    async def received(self, inbound: Inbound) -> None:
        self.signs.append(inbound.event_id)

    async def waiting(self, inbound: Inbound, notice: Callable[[], str]) -> None:
        self.notices.append(notice())


async def test_waiting_user_gets_one_notice_with_count_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "NOTICE_AFTER", 0.5)
    go_on = asyncio.Event()

    async def answer(history: History, question: str) -> str:
        await go_on.wait()
        return question

    channel = ShowsWaiting()
    async with running(Chain(tmp_path, channel, answer=answer, at_once=1)) as chain:
        for number in range(4):
            await chain.store.store(message(str(number), chat=str(number)))
        await until(lambda: len(channel.signs) == 3)
        assert channel.notices == []
        await until(lambda: len(channel.notices) == 3)
        go_on.set()
        await chain.settled()
    assert channel.notices == [EN.waiting.format(ahead=number) for number in (1, 2, 3)]
    assert channel.signs == ["1", "2", "3"]


class ShowsWaitingOnce(ShowsWaiting):
    """A channel whose platform recognises a repeated notice."""

    idempotent_for = 3600.0


@pytest.mark.parametrize(("kind", "notices"), [(ShowsWaiting, 1), (ShowsWaitingOnce, 2)])
async def test_waiting_notice_is_not_sent_again_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[ShowsWaiting], notices: int
) -> None:
    monkeypatch.setattr(worker, "NOTICE_AFTER", 0.02)

    async def answer(history: History, question: str) -> str:
        await asyncio.Event().wait()
        return question

    async def run(channel: ShowsWaiting, *messages: Inbound, sent: int) -> None:
        signs = len(channel.signs)
        async with running(Chain(tmp_path, channel, answer=answer, at_once=1)) as chain:
            for one in messages:
                await chain.store.store(one)
            await until(lambda: len(channel.signs) > signs and len(channel.notices) >= sent)
            await asyncio.sleep(0.1)  # time for a notice too many
            assert len(channel.notices) == sent

    channel = kind()
    await run(channel, message("1", chat="1"), message("2", chat="2"), sent=1)
    await run(channel, sent=notices)


async def test_waiting_notice_is_not_sent_again_when_answering_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "NOTICE_AFTER", 0.01)
    monkeypatch.setattr(keyed_queue, "RETRY_AFTER_FAULT", 0.0)
    asked: Counter[str] = Counter()

    async def answer(history: History, question: str) -> str:
        asked[question] += 1
        await asyncio.sleep(0.1)
        if question != "2" or asked[question] > 1:
            return question
        raise StoreError("the database is away")

    channel = ShowsWaiting()
    async with running(Chain(tmp_path, channel, answer=answer, at_once=1)) as chain:
        for number in range(1, 6):
            await chain.store.store(message(str(number), str(number), chat=str(number)))
        await chain.settled()
    assert asked["2"] == 2
    assert len(channel.notices) == 4


async def test_message_behind_earlier_one_gets_no_waiting_notice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "NOTICE_AFTER", 0.01)

    channel = ShowsWaiting()

    async def answer(history: History, question: str) -> str:
        await asyncio.sleep(0.1)
        return question

    async with running(Chain(tmp_path, channel, answer=answer, at_once=1)) as chain:
        await chain.store.store(message("1", chat="1"))
        await chain.store.store(message("2", chat="2", received_at=time.time() - 100))
        await chain.settled()
    assert (channel.signs, channel.notices) == (["2"], [])


@pytest.mark.parametrize("fault", [ChannelError("429"), RuntimeError("a bug")])
async def test_failed_waiting_notice_does_not_affect_answer(tmp_path: Path, fault: Exception) -> None:
    class Failing(ScriptedChannel):
        async def received(self, inbound: Inbound) -> None:
            raise fault

    channel = Failing()
    async with running(Chain(tmp_path, channel, at_once=1)) as chain:
        for number in range(5):
            await chain.store.store(message(str(number), chat=str(number)))
        await chain.settled()
    assert channel.texts == ["re: hello"] * 5


@pytest.mark.parametrize("answer", ["\u200b", "\u200b\u2060\n\ufeff"])
async def test_invisible_answer_is_not_sent(tmp_path: Path, answer: str) -> None:
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=lambda *_: answer)) as chain:
        await chain.store.store(message("1"))
        await chain.settled()
    assert channel.texts == [EN.model_failed]


async def test_invisible_part_of_answer_is_not_sent(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel, answer=lambda *_: "one|\u200b|two")) as chain:
        await chain.store.store(message("1"))
        await chain.settled()
    assert [(reply.text, reply.part, reply.parts) for reply in channel.sent] == [("one", 0, 2), ("two", 1, 2)]


@pytest.mark.parametrize(
    "found", [Quote("it is on Friday"), ChannelError("gone"), RuntimeError("a bug"), None]
)
async def test_quoted_message_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: Quote | Exception | None
) -> None:
    monkeypatch.setattr(worker, "QUOTE_SECONDS", 0.05)

    class LooksUp(ScriptedChannel):
        async def quoted(self, ref: str) -> Quote:
            assert ref == "m0"
            if isinstance(found, Exception):
                raise found
            if found is None:
                await asyncio.sleep(60)
            assert found is not None
            return found

    quoted = found.text if isinstance(found, Quote) else EN.quote_missing
    channel = LooksUp()
    async with running(Chain(tmp_path, channel)) as chain:
        await chain.store.store(message("1", "when?", quote=Quote(ref="m0")))
        await chain.settled()
    assert channel.texts == [f"re: {EN.in_reply_to}\n> {quoted}\n\nwhen?"]


async def test_user_is_notified_of_unread_parts(tmp_path: Path) -> None:
    channel = ScriptedChannel()
    async with running(Chain(tmp_path, channel)) as chain:
        await chain.store.store(message("1", "what is it?", parts=(MessagePart("picture"),)))
        await chain.store.store(message("2", "and now?"))
        await chain.settled()
    first, second = channel.texts
    assert first == "re: [picture]\nwhat is it?\n\n" + EN.parts_unread.format(parts="picture")
    assert second == "re: and now?"
