"""Commands and edits that reach running answers, and messages that are joined."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from clawd_runtime.bot.access.current import CurrentAccess
from clawd_runtime.bot.channels.base import AnswerProgress
from clawd_runtime.bot.handling import streaming, worker
from clawd_runtime.bot.models.attempt import ModelAnswer
from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.text.messages import EN
from clawd_runtime.bot.values import ConversationKey, Inbound, Quote
from tests.bot.handling.test_attempts import rows
from tests.bot.handling.test_streaming import GrowingChannel
from tests.bot.scripted import Chain, ScriptedChannel, message, running


class ChatChannel(ScriptedChannel):
    is_chat = True


class GrowingChatChannel(GrowingChannel):
    is_chat = True


class Hanging:
    """A model that shows something of each answer and does not finish it before `go_on` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go_on = asyncio.Event()

    async def answer(self, history: tuple[Turn, ...], question: str, progress: AnswerProgress) -> ModelAnswer:
        self.asked.append(question)
        progress.show(f"re: {question}"[:9])
        await self.go_on.wait()
        return ModelAnswer(f"re: {question}")


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def chain(
    folder: Path, *channels: ScriptedChannel, model: Hanging, at_once: int = 8, limit: int = 1000
) -> Chain:
    made = Chain(folder, *channels, answerer=model, at_once=at_once, limit=limit)
    made.store.on_command = made.worker.add_commands
    made.store.on_interruption = made.worker.interrupt
    made.store.joining = frozenset(channel.name for channel in channels if channel.is_chat)
    return made


async def test_stop_ends_running_answer_with_what_was_shown(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(message("1", "question"))
        await until(lambda: model.asked)
        await bot.store.store(message("2", "/stop"))
        await bot.settled()
        history = await bot.store.recall(message("1").conversation)
    assert sorted(channel.texts) == sorted([f"re: quest\n\n{EN.stopped}", EN.stop_done])
    assert history == (Turn("user", "question"), Turn("assistant", "re: quest"))


async def test_stop_completes_the_message_in_which_the_answer_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "OPEN_AFTER", 0.0)
    channel, model = GrowingChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(message("1", "question"))
        await until(lambda: channel.messages)
        await bot.store.store(message("2", "/stop"))
        await bot.settled()
    assert sorted(channel.visible) == sorted([f"re: quest\n\n{EN.stopped}", EN.stop_done])


async def test_stop_withdraws_waiting_messages_of_its_sender_in_a_group(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        for event, user in (("1", "ada"), ("2", "bob"), ("3", "ada"), ("4", "bob")):
            await bot.store.store(message(event, event, user=user, chat_kind="group"))
        await until(lambda: model.asked)
        await bot.store.store(message("5", "/stop", user="bob", chat_kind="group"))
        await until(lambda: EN.stop_done in channel.texts)
        model.go_on.set()
        await bot.settled()
        assert bot.count("clawd_messages_total", outcome="stopped") == 2
    assert channel.texts == [EN.stop_done, "re: 1", "re: 3"]


async def test_stop_reaches_message_that_waits_for_a_model(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model, at_once=1)) as bot:
        await bot.store.store(message("1", "one", chat="1", user="1"))
        await until(lambda: model.asked)
        await bot.store.store(message("2", "two", chat="2", user="2"))
        await asyncio.sleep(0.05)
        await bot.store.store(message("3", "/stop", chat="2", user="2"))
        await until(lambda: bot.count("clawd_messages_total", outcome="stopped"))
        model.go_on.set()
        await bot.settled()
    assert sorted(channel.texts) == sorted([EN.stop_done, "re: one"])
    assert model.asked == ["one"]


async def test_stopped_question_of_console_gets_an_end(tmp_path: Path) -> None:
    channel, model = ScriptedChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model, at_once=1)) as bot:
        await bot.store.store(message("1", "one", chat="1", user="1"))
        await until(lambda: model.asked)
        await bot.store.store(message("2", "two", chat="2", user="2"))
        await asyncio.sleep(0.05)
        await bot.store.store(message("3", "/stop", chat="2", user="2"))
        await until(lambda: len(channel.texts) == 2)
    assert sorted(channel.texts) == sorted([EN.stop_done, EN.stopped])


@pytest.mark.parametrize("command", ["/help", "/usage", "/unknown"])
async def test_command_is_answered_while_an_answer_is_running(tmp_path: Path, command: str) -> None:
    channel, model = ChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(message("1", "question"))
        await until(lambda: model.asked)
        await bot.store.store(message("2", command))
        await until(lambda: channel.texts)
        assert "re:" not in channel.texts[0]
        model.go_on.set()
        await bot.settled()
    assert channel.texts[1:] == ["re: question"]


class Alerting(ScriptedChannel):
    """A channel whose events are announced in a chat."""

    name = "alerting"
    announces = True

    def announced_to(self, inbound: Inbound) -> tuple[ConversationKey, ...]:
        return (ConversationKey("scripted", "alerts"),)


async def test_commands_and_alerts_are_not_blocked_by_512_waiting_conversations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, model = ChatChannel(), Hanging()
    bot = chain(tmp_path, channel, Alerting(), model=model, at_once=1)
    monkeypatch.setattr(bot.worker._runner, "_limit", 512)
    async with running(bot):
        waiting = [message(f"w{number}", chat=f"w{number}", user=f"{number}") for number in range(600)]
        await asyncio.gather(*(bot.store.store(each) for each in waiting))
        await until(lambda: model.asked)
        await bot.store.store(message("c", "/help", chat="c"))
        alert = message("a", "disk full", conversation=ConversationKey("alerting", "all"))
        await bot.store.store(alert)
        await until(lambda: len(channel.texts) == 2)
    assert sorted(channel.texts) == sorted([EN.help, "disk full"])


async def test_edited_message_restarts_its_running_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "OPEN_AFTER", 0.0)
    channel, model = GrowingChatChannel(), Hanging()
    first = message("1", "first")
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(first)
        await until(lambda: channel.messages)
        for number in range(4):  # more often than a message may end the bot
            edited = replace(first, event_id=f"e{number}", text=f"edit {number}", edited=True)
            assert not await bot.store.store(edited)
            await until(lambda: len(model.asked) == number + 2)  # noqa: B023
        model.go_on.set()
        await bot.settled()
        history = await bot.store.recall(first.conversation)
    assert channel.visible == ["re: edit 3"]
    assert history == (Turn("user", "edit 3"), Turn("assistant", "re: edit 3"))


async def test_edit_to_stop_is_not_limited(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    first = message("1", "first")
    async with running(chain(tmp_path, channel, model=model, limit=1)) as bot:
        await bot.store.store(first)
        await until(lambda: model.asked)
        await bot.store.store(replace(first, event_id="e", text="edit", edited=True))
        await bot.store.store(replace(first, event_id="s", text="/stop", edited=True))
        await bot.settled()
    assert model.asked == ["first"]
    assert channel.texts == [EN.stop_done]


async def test_edits_count_as_messages_for_the_rate_limit(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    first = message("1", "first")
    async with running(chain(tmp_path, channel, model=model, limit=2)) as bot:
        await bot.store.store(first)
        await until(lambda: model.asked == ["first"])
        for number in range(40):
            await bot.store.store(replace(first, event_id=f"e{number}", text=f"edit {number}", edited=True))
            await asyncio.sleep(0)
        await until(lambda: model.asked[1:] == ["edit 0"])
        later = replace(
            first, event_id="later", text="later", received_at=first.received_at + 61, edited=True
        )
        for _ in range(3):  # the same event
            await bot.store.store(later)
        await until(lambda: model.asked[2:] == ["later"])
        model.go_on.set()
        await bot.settled()
    assert model.asked == ["first", "edit 0", "later"]
    assert channel.texts == ["re: later"]


@pytest.mark.parametrize("change", ["another user", "answered already"])
async def test_edit_that_concerns_no_open_message_has_no_effect(tmp_path: Path, change: str) -> None:
    channel, model = ChatChannel(), Hanging()
    first = message("1", "first", user="ada")
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(first)
        await until(lambda: model.asked)
        if change == "answered already":
            model.go_on.set()
            await bot.settled()
        user = "bob" if change == "another user" else "ada"
        await bot.store.store(replace(first, event_id="e", text="edited", user=user, edited=True))
        model.go_on.set()
        await bot.settled()
    assert channel.texts == ["re: first"]


async def test_messages_in_quick_succession_are_answered_together(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        for event, text in (("1", "first"), ("2", "second"), ("3", "third")):
            await bot.store.store(message(event, text))
        await until(lambda: model.asked)
        model.go_on.set()
        await bot.settled()
        history = await bot.store.recall(message("1").conversation)
    assert channel.texts == ["re: first", "re: second\nthird"]
    assert channel.sent[-1].reply_to == "3"
    assert [turn.text for turn in history if turn.role == "user"] == ["first", "second\nthird"]


async def test_messages_of_others_commands_and_late_ones_are_not_joined(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    group = {"chat_kind": "group"}
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(message("0", "running", user="ada", **group))
        await until(lambda: model.asked)
        await bot.store.store(message("1", "one", user="ada", **group))
        await bot.store.store(message("2", "two", user="bob", **group))
        await bot.store.store(message("3", "aside", user="bob", addressed=False, **group))
        await bot.store.store(message("4", "three", user="bob", **group))
        later = message("5", "much later", user="bob", **group)
        await bot.store.store(replace(later, received_at=later.received_at + 60.0))
        await bot.store.store(message("6", "/new", user="bob", **group))
        model.go_on.set()
        await bot.settled()
    assert channel.texts == [
        *("re: running", "re: one", "re: two", "re: three", "re: much later"),
        EN.new_conversation,
    ]


async def test_restart_answers_joined_messages_once(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model, at_once=1)) as bot:
        await bot.store.store(message("0", "other", chat="2", user="2"))
        await until(lambda: model.asked)
        for event, text in (("1", "first"), ("2", "second")):
            await bot.store.store(message(event, text))
        await asyncio.sleep(0.05)
    model.go_on.set()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.settled()
    assert sorted(channel.texts) == ["re: first\nsecond", "re: other"]


async def test_stop_ends_answer_to_joined_messages_and_next_one_is_answered(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store_all([message(event, event) for event in ("1", "2", "3")], "scripted", {})
        await until(lambda: model.asked)
        await bot.store.store(message("4", "/stop"))
        model.go_on.set()
        await bot.store.store(message("5", "next"))
        await bot.settled()
        history = await bot.store.recall(message("1").conversation)
    assert "re: next" in channel.texts
    assert [turn.text for turn in history if turn.role == "user"] == ["1\n2\n3", "next"]


async def test_stop_prevails_over_edit_at_the_same_time(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    first = message("1", "first")
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(first)
        await until(lambda: model.asked)
        edited = replace(first, event_id="e", text="edited", edited=True)
        await bot.store.store_all([edited, message("2", "/stop"), edited], "scripted", {})
        model.go_on.set()
        await bot.store.store(message("3", "next"))
        await bot.settled()
    assert model.asked == ["first", "next"]
    assert sorted(channel.texts) == sorted([f"re: first\n\n{EN.stopped}", EN.stop_done, "re: next"])


async def test_joined_messages_are_answered_once_when_the_bot_leaves(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store_all([message("1", "first"), message("2", "second")], "scripted", {})
        await until(lambda: model.asked)
        await bot.store.begin_leaving(bot.worker.begin_nothing())
        model.go_on.set()
        await bot.worker.stop(5.0)
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.settled()
    assert channel.texts == ["re: first\nsecond"]


async def test_stopped_question_is_remembered_as_the_policy_permits(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps({"input": [{"name": "r", "patterns": ["hunter"]}]}), "utf-8")
    channel, model = ChatChannel(), Hanging()
    bot = Chain(tmp_path, channel, answerer=model, policy=CurrentPolicy(file, {}))
    async with running(bot):
        await bot.store.store(message("1", "my word is hunter"))
        await until(lambda: model.asked)
        await bot.store.store(message("2", "/stop"))
        await bot.settled()
        history = await bot.store.recall(message("1").conversation)
    assert [turn.text for turn in history if turn.role == "user"] == model.asked
    assert "hunter" not in model.asked[0]


class SlowQuotes(ChatChannel):
    """A channel on which it takes a while to fetch a quoted message."""

    def __init__(self) -> None:
        super().__init__()
        self.fetching = 0
        self.fetched = asyncio.Event()

    async def quoted(self, ref: str) -> Quote:
        self.fetching += 1
        await self.fetched.wait()
        return Quote("quoted")


@pytest.mark.parametrize("change", ["stop", "edit"])
async def test_change_while_the_quote_is_fetched_is_not_lost(tmp_path: Path, change: str) -> None:
    channel, model = SlowQuotes(), Hanging()
    model.go_on.set()
    first = message("1", "first", quote=Quote(ref="q"))
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(first)
        await until(lambda: channel.fetching)
        edited = replace(first, event_id="e", text="edited", edited=True)
        await bot.store.store(edited if change == "edit" else message("2", "/stop"))
        channel.fetched.set()
        await bot.settled()
    assert [asked.splitlines()[-1] for asked in model.asked] == (["edited"] if change == "edit" else [])


@pytest.mark.parametrize("change", ["stop", "edit"])
async def test_change_whose_notice_is_lost_is_found_before_the_model_is_asked(
    tmp_path: Path, change: str
) -> None:
    channel, model = SlowQuotes(), Hanging()
    model.go_on.set()
    first = message("1", "first", quote=Quote(ref="q"))
    bot = chain(tmp_path, channel, model=model)
    bot.store.on_interruption = lambda seq, why: None
    async with running(bot):
        await bot.store.store(first)
        await until(lambda: channel.fetching)
        edited = replace(first, event_id="e", text="edited", edited=True)
        await bot.store.store(edited if change == "edit" else message("2", "/stop"))
        channel.fetched.set()
        await bot.settled()
    assert [asked.splitlines()[-1] for asked in model.asked] == (["edited"] if change == "edit" else [])


async def test_message_that_shows_an_answer_is_completed_when_no_reply_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, model = GrowingChatChannel(), Hanging()
    first = message("1", "first", user="ada", chat_kind="group")
    file = tmp_path / "access.json"
    file.write_text('{"channels": {"scripted": "open"}}', "utf-8")
    bot = Chain(tmp_path, channel, answerer=model, access=CurrentAccess(file))
    monkeypatch.setattr(streaming, "OPEN_AFTER", 0.0)
    async with running(bot):
        await bot.store.store(first)
        await until(lambda: channel.messages)
    file.write_text('{"channels": {"scripted": "closed"}}', "utf-8")
    async with running(Chain(tmp_path, channel, answerer=model, access=CurrentAccess(file))) as bot:
        await bot.settled()
        assert bot.count("clawd_messages_total", outcome="denied") == 1
    assert channel.visible == [EN.stopped]


async def test_notice_in_a_recorded_message_is_replaced_when_the_waiting_message_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "NOTICE_AFTER", 0.0)
    channel, model = GrowingChatChannel(), Hanging()
    async with running(chain(tmp_path, channel, model=model, at_once=1)) as bot:
        await bot.store.store(message("1", "one", chat="1", user="1"))
        await until(lambda: model.asked)
        await bot.store.store(message("2", "two", chat="2", user="2"))
        notice = EN.waiting.format(ahead=1)
        await until(lambda: notice in channel.visible)
        await bot.store.store(message("3", "/stop", chat="2", user="2"))
        await until(lambda: EN.stopped in channel.visible)
        model.go_on.set()
        await bot.settled()
    assert sorted(channel.visible) == sorted([EN.stop_done, EN.stopped, "re: one"])


async def test_waiting_message_edited_into_stop_ends_the_running_answer(tmp_path: Path) -> None:
    channel, model = ChatChannel(), Hanging()
    second = message("2", "second")
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(message("1", "first"))
        await until(lambda: model.asked)
        await bot.store.store(second)
        await bot.store.store(replace(second, event_id="e", text="/stop", edited=True))
        await bot.settled()
    assert channel.texts == [f"re: first\n\n{EN.stopped}", EN.stop_done]


async def test_edit_before_the_model_is_asked_takes_back_no_earlier_attempt(tmp_path: Path) -> None:
    first = message("1", "first", quote=Quote(ref="q"))
    channel, model = SlowQuotes(), Hanging()
    channel.fetched.set()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await bot.store.store(first)
        await until(lambda: model.asked)
        bot.worker._attempted.clear()  # a killed process withdraws no attempt
    channel = SlowQuotes()
    async with running(chain(tmp_path, channel, model=model)) as bot:
        await until(lambda: channel.fetching)
        await bot.store.store(replace(first, event_id="e", text="edited", edited=True))
        await until(lambda: channel.fetching == 2)
        assert (await rows(bot))["1"].attempts == 1
