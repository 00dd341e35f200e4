from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from clawd_runtime.bot.handling.rate_limit import RateLimitVerdict
from clawd_runtime.bot.handling.router import AskModel, Decision, Ignore, Router, Say
from clawd_runtime.bot.store.history import Turn
from clawd_runtime.bot.text.messages import EN, KINDS, ZH
from clawd_runtime.bot.values import ConversationKey, Inbound, MessagePart, PartKind, Quote

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


def decide(verdict: RateLimitVerdict | None = RateLimitVerdict.ALLOW, **changes: object) -> Decision:
    inbound = replace(PRIVATE, **changes)  # type: ignore[arg-type]
    return Router("auto", 30).decide(inbound, verdict)


def test_question_goes_to_model() -> None:
    assert decide(text="  hello ") == AskModel("hello", EN)


@pytest.mark.parametrize(
    ("text", "decision"),
    [
        ("/new", Say("command", EN.new_conversation, begins_anew=True)),
        ("/NEW please", Say("command", EN.new_conversation, begins_anew=True)),
        ("/help", Say("command", EN.help)),
        ("/start deep-link", Say("command", EN.greeting)),
        ("/frobnicate now", Say("command", EN.unknown_command.format(command="/frobnicate"))),
        ("/etc/passwd is what?", AskModel("/etc/passwd is what?", EN)),
        ("/ or \\?", AskModel("/ or \\?", EN)),
        ("", Say("no_text", EN.only_text)),
        ("  \n", Say("no_text", EN.only_text)),
    ],
)
def test_commands_are_answered(text: str, decision: Decision) -> None:
    assert decide(text=text) == decision


def test_fixed_texts_in_senders_language() -> None:
    assert decide(text="/help", language="zh-hans") == Say("command", ZH.help)
    assert decide(text="你好", language="en") == AskModel("你好", ZH)


def test_unaddressed_group_message_is_ignored() -> None:
    assert decide(chat_kind="group", addressed=False) == Ignore("not_addressed")
    assert decide(chat_kind="group", addressed=False, text="/new") == Ignore("not_addressed")
    assert decide(chat_kind="group", addressed=True) == AskModel("hello", EN)


def test_rate_limit_is_explained_once() -> None:
    assert decide(RateLimitVerdict.EXPLAIN) == Say("rate_limited", EN.rate_limited.format(limit=30))
    assert decide(RateLimitVerdict.IGNORE) == Ignore("rate_limited")


def test_unaddressed_group_message_is_not_rate_limited() -> None:
    assert decide(None, chat_kind="group", addressed=False) == Ignore("not_addressed")


def refers(**changes: Any) -> Decision:
    return Router("auto", 5).decide(replace(PRIVATE, **changes), RateLimitVerdict.ALLOW)


def test_mention_without_text_asks_about_quote() -> None:
    asked = refers(text="", quote=Quote("the release is on Friday"))
    assert asked == AskModel("the release is on Friday", EN)
    assert refers(text="\u200b ", quote=Quote("发布在周五")) == AskModel("发布在周五", ZH)


def test_quoted_text_is_not_a_command() -> None:
    assert refers(text="", quote=Quote("/new")) == AskModel("/new", EN)


def test_command_with_quote_is_a_command() -> None:
    assert refers(text="/new", quote=Quote("long ago")) == Say(
        "command", EN.new_conversation, begins_anew=True
    )


def test_quote_is_added_unless_in_recent_turns() -> None:
    asked = refers(text="why?", quote=Quote("on\nFriday"))
    assert isinstance(asked, AskModel)
    assert asked.prompt(()) == "In reply to:\n> on\n> Friday\n\nwhy?"
    assert asked.prompt((Turn("assistant", "It is on\nFriday."),)) == "why?"


def test_long_quote_is_shortened() -> None:
    asked = refers(text="why?", quote=Quote("x" * 100_000))
    assert isinstance(asked, AskModel)
    assert len(asked.prompt(())) < 5000


def test_unreadable_parts_are_named_to_model_and_user() -> None:
    parts = (MessagePart("picture"), MessagePart("file", "report.pdf"))
    assert refers(text="", parts=parts) == Say(
        "no_text", EN.only_parts.format(parts="picture, file report.pdf")
    )
    asked = refers(text="what is this?", parts=parts)
    assert isinstance(asked, AskModel)
    assert asked.prompt(()) == "[picture] [file report.pdf]\nwhat is this?"
    assert asked.unread == parts
    asked = refers(text="这是什么？", quote=Quote("", (MessagePart("picture"),)))
    assert isinstance(asked, AskModel)
    assert asked.prompt(()) == "回复的消息：\n> [图片]\n\n这是什么？"


def test_missing_quote_has_placeholder() -> None:
    assert refers(text="", quote=Quote(ref="om_1")) == Say("no_text", EN.quote_unreadable)
    asked = refers(text="why?", quote=Quote(ref="om_1"))
    assert isinstance(asked, AskModel)
    assert EN.quote_missing in asked.prompt(())


def test_every_part_kind_has_a_name_in_every_language() -> None:
    for names in KINDS.values():
        assert names.keys() == set(get_args(PartKind))
