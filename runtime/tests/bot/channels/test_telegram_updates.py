"""Updates as Telegram sends them; aiogram's types vouch that the samples are such."""

from __future__ import annotations

from typing import Any

import pytest
from aiogram.types import Update
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.channels.telegram_updates import Identity, read_update
from clawd_runtime.bot.values import ConversationKey, Inbound

ME = Identity(1000, "Clawd_Bot")
ADA = {"id": 7, "is_bot": False, "first_name": "Ada", "language_code": "zh-hans"}
BOT = {"id": 1000, "is_bot": True, "first_name": "Clawd", "username": "Clawd_Bot"}
PRIVATE = {"id": 7, "type": "private", "first_name": "Ada"}
GROUP = {"id": -100123, "type": "supergroup", "title": "Team"}


def entity(kind: str, text: str, part: str, **more: Any) -> dict[str, Any]:
    """An entity for `part` of `text`, with offsets in UTF-16 units."""
    before = text[: text.index(part)]
    return {
        "type": kind,
        "offset": len(before.encode("utf-16-le")) // 2,
        "length": len(part.encode("utf-16-le")) // 2,
        **more,
    }


def update(text: str | None = "hello", *, chat: Any = PRIVATE, **message: Any) -> dict[str, Any]:
    body = {"message_id": 55, "date": 1_700_000_000, "chat": chat, "from_": ADA} | message
    if text is not None:
        body["text"] = text
    return {"update_id": 870, "message": {name.rstrip("_"): value for name, value in body.items()}}


def read(sample: dict[str, Any]) -> Inbound | None:
    Update.model_validate(sample)
    return read_update(sample, ME, 99.0)


def inbound(sample: dict[str, Any]) -> Inbound:
    found = read(sample)
    assert found is not None
    return found


def test_a_private_message() -> None:
    assert read(update()) == Inbound(
        event_id="1000:870",
        message_id="1000:7:55",
        conversation=ConversationKey("telegram", "7"),
        chat_kind="private",
        user="7",
        text="hello",
        addressed=True,
        reply_to="55",
        received_at=99.0,
        language="zh-hans",
    )


@pytest.mark.parametrize(
    ("text", "entities", "left", "addressed"),
    [
        ("just talk", [], "just talk", False),
        ("@clawd_bot what is it?", [("mention", "@clawd_bot")], "what is it?", True),
        ("好😀 @Clawd_Bot, 你好", [("mention", "@Clawd_Bot")], "好😀, 你好", True),
        ("ask @Clawd_Bot now", [("mention", "@Clawd_Bot")], "ask now", True),
        ("ask @somebody", [("mention", "@somebody")], "ask @somebody", False),
        ("/new@Clawd_Bot please", [("bot_command", "/new@Clawd_Bot")], "/new please", True),
        ("/new@OtherBot", [("bot_command", "/new@OtherBot")], "/new@OtherBot", False),
        ("/new", [("bot_command", "/new")], "/new", False),
        ("@Clawd_Bot", [("mention", "@Clawd_Bot")], "", True),
    ],
)
def test_mentions_in_groups(text: str, entities: list[tuple[str, str]], left: str, addressed: bool) -> None:
    sample = update(text, chat=GROUP, entities=[entity(kind, text, part) for kind, part in entities])
    found = inbound(sample)
    assert (found.text, found.addressed, found.chat_kind) == (left, addressed, "group")
    assert found.conversation == ConversationKey("telegram", "-100123")


def test_a_mention_of_a_user_without_name() -> None:
    text = "Clawd, help"
    mention = entity("text_mention", text, "Clawd", user=BOT)
    found = inbound(update(text, chat=GROUP, entities=[mention]))
    assert (found.text, found.addressed) == (", help", True)


def replied(sender: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"message_id": 50, "date": 1_700_000_000, "chat": GROUP, "from": sender, **more}


def test_replies_in_groups() -> None:
    assert inbound(update(chat=GROUP, reply_to_message=replied(BOT, text="x"))).addressed
    assert not inbound(update(chat=GROUP, reply_to_message=replied(ADA, text="x"))).addressed
    text = "/stop@OtherBot"
    to_another = entity("bot_command", text, text)
    sample = update(text, chat=GROUP, entities=[to_another], reply_to_message=replied(BOT, text="x"))
    assert not inbound(sample).addressed


def test_topics() -> None:
    created = replied(BOT, forum_topic_created={"name": "Plans", "icon_color": 7322096})
    in_topic = update(chat=GROUP, message_thread_id=50, is_topic_message=True, reply_to_message=created)
    assert inbound(in_topic).conversation == ConversationKey("telegram", "-100123", "50")
    assert not inbound(in_topic).addressed
    chain_of_replies = update(chat=GROUP, message_thread_id=50)
    assert inbound(chain_of_replies).conversation.thread == ""


def test_an_anonymous_administrator() -> None:
    anonymous = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}
    assert inbound(update(chat=GROUP, sender_chat=GROUP, from_=anonymous)).user == "chat-100123"


def test_what_is_not_text() -> None:
    photo = [{"file_id": "a", "file_unique_id": "b", "width": 1, "height": 1}]
    assert inbound(update(None, photo=photo)).text == ""
    assert inbound(update(None, photo=photo, caption="what is this?")).text == "what is this?"
    caption = "@Clawd_Bot look"
    captioned = update(None, chat=GROUP, photo=photo, caption=caption)
    captioned["message"]["caption_entities"] = [entity("mention", caption, "@Clawd_Bot")]
    assert (inbound(captioned).text, inbound(captioned).addressed) == ("look", True)


@pytest.mark.parametrize(
    "sample",
    [
        update(None, chat=GROUP, new_chat_members=[ADA]),
        update(None, chat=GROUP, new_chat_title="Other"),
        update(from_={"id": 8, "is_bot": True, "first_name": "Another"}),
        update(
            chat=GROUP, sender_chat={"id": -1, "type": "channel", "title": "N"}, is_automatic_forward=True
        ),
        {"update_id": 1, "edited_message": update()["message"] | {"edit_date": 1_700_000_001}},
        {"update_id": 1, "channel_post": update(chat={"id": -5, "type": "channel", "title": "C"})["message"]},
        update(chat={"id": -5, "type": "channel", "title": "C"}),
    ],
)
def test_what_is_not_for_the_bot(sample: dict[str, Any]) -> None:
    assert read(sample) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
SHAPED = st.fixed_dictionaries(
    {"update_id": JSON},
    optional={
        "message": st.fixed_dictionaries(
            {"chat": st.fixed_dictionaries({"id": JSON, "type": st.just("private") | JSON})},
            optional={"message_id": JSON, "from": JSON, "text": JSON, "entities": JSON, "photo": JSON},
        )
        | JSON
    },
)


@given(JSON | SHAPED)
def test_whatever_comes_is_read_or_refused(sample: Any) -> None:
    try:
        found = read_update(sample, ME, 0.0)
    except ValueError:
        return
    assert found is None or isinstance(found.text, str)
