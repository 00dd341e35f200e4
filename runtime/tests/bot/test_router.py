from __future__ import annotations

from dataclasses import replace

import pytest

from clawd_runtime.bot.messages import EN, ZH
from clawd_runtime.bot.rate_limit import Verdict
from clawd_runtime.bot.router import Ask, Decision, Ignore, Router, Say
from clawd_runtime.bot.values import ConversationKey, Inbound

PRIVATE = Inbound(
    event_id="1",
    message_id="1",
    conversation=ConversationKey("telegram", "7"),
    chat_kind="private",
    user="7",
    text="hello",
    addressed=True,
    reply_to="1",
    received_at=1000.0,
    language="en",
)


def decide(verdict: Verdict | None = Verdict.ALLOW, **changes: object) -> Decision:
    inbound = replace(PRIVATE, **changes)  # type: ignore[arg-type]
    return Router("auto", 30).decide(inbound, verdict)


def test_a_question_goes_to_the_model() -> None:
    assert decide(text="  hello ") == Ask("hello", EN)


@pytest.mark.parametrize(
    ("text", "decision"),
    [
        ("/new", Say("command", EN.new_conversation, begins_anew=True)),
        ("/NEW please", Say("command", EN.new_conversation, begins_anew=True)),
        ("/help", Say("command", EN.help)),
        ("/start deep-link", Say("command", EN.greeting)),
        ("/frobnicate now", Say("command", EN.unknown_command.format(command="/frobnicate"))),
        ("/etc/passwd is what?", Ask("/etc/passwd is what?", EN)),
        ("/ or \\?", Ask("/ or \\?", EN)),
        ("", Say("no_text", EN.only_text)),
        ("  \n", Say("no_text", EN.only_text)),
    ],
)
def test_commands(text: str, decision: Decision) -> None:
    assert decide(text=text) == decision


def test_own_words_in_the_writers_language() -> None:
    assert decide(text="/help", language="zh-hans") == Say("command", ZH.help)
    assert decide(text="你好", language="en") == Ask("你好", ZH)


def test_in_groups_only_when_addressed() -> None:
    assert decide(chat_kind="group", addressed=False) == Ignore("not_addressed")
    assert decide(chat_kind="group", addressed=False, text="/new") == Ignore("not_addressed")
    assert decide(chat_kind="group", addressed=True) == Ask("hello", EN)


def test_over_the_limit_is_told_once() -> None:
    assert decide(Verdict.EXPLAIN) == Say("rate_limited", EN.rate_limited.format(limit=30))
    assert decide(Verdict.IGNORE) == Ignore("rate_limited")


def test_talk_of_others_in_a_group_is_not_judged() -> None:
    assert decide(None, chat_kind="group", addressed=False) == Ignore("not_addressed")
