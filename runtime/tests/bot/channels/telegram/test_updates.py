"""Updates as Telegram sends them; aiogram's types validate the samples."""

from __future__ import annotations

from typing import Any

import pytest
from aiogram.types import Message as AiogramMessage
from aiogram.types import Update
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.channels.telegram.parts import EVENTS, NOT_CONTENT, PARTS
from clawd_runtime.bot.channels.telegram.updates import TelegramIdentity, read_update
from clawd_runtime.bot.values import ConversationKey, Inbound, MessagePart, Quote

ME = TelegramIdentity(1000, "Clawd_Bot")
ADA = {"id": 7, "is_bot": False, "first_name": "Ada", "language_code": "zh-hans"}
BOT = {"id": 1000, "is_bot": True, "first_name": "Clawd", "username": "Clawd_Bot"}
PRIVATE = {"id": 7, "type": "private", "first_name": "Ada"}
GROUP = {"id": -100123, "type": "supergroup", "title": "Team"}


def entity(kind: str, text: str, part: str, **more: Any) -> dict[str, Any]:
    """Return an entity for `part` of `text`, with offsets in UTF-16 units."""
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


def test_private_message_is_read() -> None:
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
def test_mention_in_group_addresses_bot(
    text: str, entities: list[tuple[str, str]], left: str, addressed: bool
) -> None:
    sample = update(text, chat=GROUP, entities=[entity(kind, text, part) for kind, part in entities])
    found = inbound(sample)
    assert (found.text, found.addressed, found.chat_kind) == (left, addressed, "group")
    assert found.conversation == ConversationKey("telegram", "-100123")


def test_empty_language_code_is_none() -> None:
    assert inbound(update(from_={**ADA, "language_code": ""})).language is None


def test_mention_of_user_without_username() -> None:
    text = "Clawd, help"
    mention = entity("text_mention", text, "Clawd", user=BOT)
    found = inbound(update(text, chat=GROUP, entities=[mention]))
    assert (found.text, found.addressed) == (", help", True)


def replied(sender: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"message_id": 50, "date": 1_700_000_000, "chat": GROUP, "from": sender, **more}


def test_reply_in_group_addresses_bot() -> None:
    assert inbound(update(chat=GROUP, reply_to_message=replied(BOT, text="x"))).addressed
    assert not inbound(update(chat=GROUP, reply_to_message=replied(ADA, text="x"))).addressed
    text = "/stop@OtherBot"
    to_another = entity("bot_command", text, text)
    sample = update(text, chat=GROUP, entities=[to_another], reply_to_message=replied(BOT, text="x"))
    assert not inbound(sample).addressed


def test_topic_is_a_thread() -> None:
    created = replied(BOT, forum_topic_created={"name": "Plans", "icon_color": 7322096})
    in_topic = update(chat=GROUP, message_thread_id=50, is_topic_message=True, reply_to_message=created)
    assert inbound(in_topic).conversation == ConversationKey("telegram", "-100123", "50")
    assert not inbound(in_topic).addressed
    chain_of_replies = update(chat=GROUP, message_thread_id=50)
    assert inbound(chain_of_replies).conversation.thread == ""


def test_anonymous_administrator_is_the_chat() -> None:
    anonymous = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}
    assert inbound(update(chat=GROUP, sender_chat=GROUP, from_=anonymous)).user == "chat-100123"


def test_message_without_text_has_parts() -> None:
    photo = [{"file_id": "a", "file_unique_id": "b", "width": 1, "height": 1}]
    assert inbound(update(None, photo=photo)).text == ""
    assert inbound(update(None, photo=photo, caption="what is this?")).text == "what is this?"
    caption = "@Clawd_Bot look"
    captioned = update(None, chat=GROUP, photo=photo, caption=caption)
    captioned["message"]["caption_entities"] = [entity("mention", caption, "@Clawd_Bot")]
    assert (inbound(captioned).text, inbound(captioned).addressed) == ("look", True)


def test_edited_message_names_the_message_that_it_changes() -> None:
    edited = {"update_id": 2, "edited_message": update()["message"] | {"edit_date": 1_700_000_001}}
    first, change = read(update()), read(edited)
    assert first is not None
    assert change is not None
    assert (first.edited, change.edited) == (False, True)
    assert change.message_id == first.message_id
    assert change.event_id != first.event_id


@pytest.mark.parametrize(
    "sample",
    [
        update(None, chat=GROUP, new_chat_members=[ADA]),
        update(None, chat=GROUP, new_chat_title="Other"),
        update(from_={"id": 8, "is_bot": True, "first_name": "Another"}),
        update(
            chat=GROUP, sender_chat={"id": -1, "type": "channel", "title": "N"}, is_automatic_forward=True
        ),
        {"update_id": 1, "edited_channel_post": update()["message"] | {"edit_date": 1_700_000_001}},
        {"update_id": 1, "channel_post": update(chat={"id": -5, "type": "channel", "title": "C"})["message"]},
        update(chat={"id": -5, "type": "channel", "title": "C"}),
    ],
)
def test_other_updates_are_ignored(sample: dict[str, Any]) -> None:
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
def test_any_update_is_read_or_refused(sample: Any) -> None:
    try:
        found = read_update(sample, ME, 0.0)
    except ValueError:
        return
    assert found is None or isinstance(found.text, str)


PHOTO = [{"file_id": "a", "file_unique_id": "b", "width": 1, "height": 1}]
FILE = {"file_id": "a", "file_unique_id": "b"}


@pytest.mark.parametrize(
    ("message", "part"),
    [
        ({"photo": PHOTO}, MessagePart("picture")),
        ({"document": FILE | {"file_name": "report.pdf"}}, MessagePart("file", "report.pdf")),
        (
            {"animation": FILE | {"width": 1, "height": 1, "duration": 1}, "document": FILE},
            MessagePart("animation"),
        ),
        ({"voice": FILE | {"duration": 1}}, MessagePart("voice")),
        ({"poll": {"question": "Lunch?"}}, MessagePart("poll", "Lunch?")),
        ({"contact": {"phone_number": "+49 30", "first_name": "Bob"}}, MessagePart("contact", "Bob +49 30")),
        ({"location": {"latitude": 1.0, "longitude": 2.0}}, MessagePart("location")),
        ({"document": {"file_name": 7}}, MessagePart("file")),
        ({"sticker": {"emoji": "😀"}}, MessagePart("sticker", "😀")),
    ],
)
def test_parts_have_kind_and_name(message: dict[str, Any], part: MessagePart) -> None:
    found = read_update(update(None, **message), ME, 99.0)
    assert found is not None
    assert (found.text, found.parts) == ("", (part,))


def link(text: str, part: str, url: str) -> dict[str, Any]:
    return entity("text_link", text, part, url=url)


@pytest.mark.parametrize(
    ("text", "part", "url", "shown"),
    [
        ("see this page", "this page", "https://x/y", "see this page (https://x/y)"),
        ("😀 see this, please", "this", "https://x/y", "😀 see this (https://x/y), please"),
        ("see this page ", "page ", "https://x/y", "see this page (https://x/y)"),
        ("see https://x/y", "https://x/y", "https://x/y/", "see https://x/y"),
        ("@Clawd_Bot see this", "this", "https://x", "see this (https://x)"),
    ],
)
def test_address_of_link_is_read(text: str, part: str, url: str, shown: str) -> None:
    entities = [link(text, part, url)]
    if "@Clawd_Bot" in text:
        entities.append(entity("mention", text, "@Clawd_Bot"))
    assert inbound(update(text, entities=entities)).text == shown
    caption = update(None, photo=PHOTO, caption=text, caption_entities=entities)
    assert inbound(caption).text == shown
    origin = {"type": "hidden_user", "date": 1, "sender_user_name": "Bob"}
    forwarded = inbound(update(text, entities=entities, forward_origin=origin))
    assert forwarded.quote == Quote(shown)


def test_addresses_of_several_links_follow_their_words() -> None:
    text = "one and two"
    entities = [link(text, "one", "https://1"), link(text, "two", "https://2")]
    assert inbound(update(text, entities=entities)).text == "one (https://1) and two (https://2)"


def test_address_of_link_in_quoted_message_is_read() -> None:
    said = replied(ADA, text="see this", entities=[link("see this", "this", "https://x")])
    assert inbound(update(chat=GROUP, reply_to_message=said)).quote == Quote("see this (https://x)")
    quote = {"text": "this", "position": 4, "entities": [link("this", "this", "https://x")]}
    found = inbound(update(chat=GROUP, reply_to_message=said, quote=quote))
    assert found.quote == Quote("this (https://x)")


def test_reply_to_story_has_story_part() -> None:
    story = {"chat": PRIVATE, "id": 3}
    assert inbound(update("nice", reply_to_story=story)).quote == Quote("", (MessagePart("story"),))


@pytest.mark.parametrize("kind", ["hologram", "h" * 99])
def test_unknown_content_type_is_named(kind: str) -> None:
    part = MessagePart("other", kind[:40])
    found = read_update(update(None, **{kind: {"file_id": "a"}}), ME, 99.0)
    assert found is not None
    assert (found.text, found.parts) == ("", (part,))
    captioned = read_update(update(None, caption="look", **{kind: [{"file_id": "a"}]}), ME, 99.0)
    assert captioned is not None
    assert (captioned.text, captioned.parts) == ("look", (part,))
    answered = read_update(update(reply_to_message=replied(ADA, **{kind: {"file_id": "a"}})), ME, 99.0)
    assert answered is not None
    assert answered.quote == Quote("", (part,))


@pytest.mark.parametrize("more", [{"new_mark": True}, {"new_count": 5}, {"new_mark": {}}, {"gift": {"x": 1}}])
def test_unknown_field_without_content_is_ignored(more: dict[str, Any]) -> None:
    assert read_update(update(None, **more), ME, 99.0) is None
    found = read_update(update(**more, new_object={"x": 1}), ME, 99.0)
    assert found is not None
    assert (found.text, found.parts) == ("hello", ())


def test_every_field_of_aiogram_is_classified() -> None:
    fields = {field.alias or name for name, field in AiogramMessage.model_fields.items()}
    assert len(fields) > 90
    assert fields - {*PARTS} - NOT_CONTENT - EVENTS == set()
    assert not {*PARTS} & (NOT_CONTENT | EVENTS)


def test_caption_is_read_with_its_picture() -> None:
    found = inbound(update(None, photo=PHOTO, caption="what is this?"))
    assert (found.text, found.parts) == ("what is this?", (MessagePart("picture"),))


def test_replied_message_is_quoted() -> None:
    said = replied(ADA, text="the release is on Friday")
    found = inbound(
        update(
            "@Clawd_Bot",
            chat=GROUP,
            entities=[entity("mention", "@Clawd_Bot", "@Clawd_Bot")],
            reply_to_message=said,
        )
    )
    assert (found.text, found.addressed, found.quote) == ("", True, Quote("the release is on Friday"))
    captioned = replied(ADA, caption="our office", photo=PHOTO)
    assert inbound(update(chat=GROUP, reply_to_message=captioned)).quote == Quote(
        "our office", (MessagePart("picture"),)
    )
    assert inbound(update(chat=GROUP, reply_to_message=replied(ADA, new_chat_title="T"))).quote is None


def test_quoted_part_takes_precedence_over_message() -> None:
    said = replied(ADA, text="Friday. Or Monday.")
    quote = {"text": "Or Monday.", "position": 8}
    assert inbound(update(chat=GROUP, reply_to_message=said, quote=quote)).quote == Quote("Or Monday.")


def test_message_of_another_chat_is_quoted() -> None:
    origin = {"type": "hidden_user", "date": 1, "sender_user_name": "Bob"}
    external = {"origin": origin, "photo": PHOTO}
    assert inbound(update(external_reply=external)).quote == Quote("", (MessagePart("picture"),))
    quote = {"text": "from there", "position": 0}
    assert inbound(update(external_reply=external, quote=quote)).quote == Quote(
        "from there", (MessagePart("picture"),)
    )


def test_forwarded_text_is_a_quote_not_text() -> None:
    origin = {"type": "hidden_user", "date": 1, "sender_user_name": "Bob"}
    found = inbound(update("/new", forward_origin=origin))
    assert (found.text, found.quote) == ("", Quote("/new"))
    found = inbound(update(None, photo=PHOTO, caption="look", forward_origin=origin))
    assert (found.text, found.parts, found.quote) == ("", (), Quote("look", (MessagePart("picture"),)))


def test_topic_creation_notice_is_not_quoted() -> None:
    created = replied(BOT, forum_topic_created={"name": "Plans", "icon_color": 7322096})
    assert (
        inbound(
            update(chat=GROUP, is_topic_message=True, message_thread_id=50, reply_to_message=created)
        ).quote
        is None
    )
