"""Parsing of Feishu's events."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawd_runtime.bot.channels.feishu.events import is_addressable_group, read_message
from clawd_runtime.bot.foreign_json import ForeignJsonError
from clawd_runtime.bot.values import ConversationKey, Inbound, MessagePart, Quote

BOT = "ou_bot"


def mention(number: int, open_id: str, name: str) -> dict[str, Any]:
    ids = {"union_id": "on_x", "user_id": "x", "open_id": open_id}
    return {"key": f"@_user_{number}", "id": ids, "name": name, "tenant_key": "t"}


def event(content: Any = None, **message: Any) -> dict[str, Any]:
    return {
        "schema": "2.0",
        "header": {
            "event_id": "e1",
            "event_type": "im.message.receive_v1",
            "token": "t",
            "app_id": "cli_1",
            "tenant_key": "acme",
        },
        "event": {
            "sender": {
                "sender_id": {"open_id": "ou_ada", "union_id": "on_ada"},
                "sender_type": "user",
                "tenant_key": "acme",
            },
            "message": {
                "message_id": "om_1",
                "create_time": "1609073151345",
                "chat_id": "oc_1",
                "chat_type": "p2p",
                "message_type": "text",
                "content": json.dumps(content if content is not None else {"text": "hello"}),
                **message,
            },
        },
    }


def read(given: dict[str, Any], bot: str | None = BOT) -> Inbound:
    inbound = read_message(given, bot)
    assert inbound is not None
    return inbound


def test_private_message_is_read() -> None:
    assert read(event()) == Inbound(
        event_id="e1",
        message_id="om_1",
        conversation=ConversationKey("feishu", "oc_1"),
        chat_kind="private",
        user="ou_ada",
        text="hello",
        addressed=True,
        reply_to="om_1",
        received_at=1609073151.345,
    )


@pytest.mark.parametrize(
    ("of_sender", "outside"), [("acme", False), ("other", True), (None, True), ("", True)]
)
def test_sender_of_other_or_unknown_tenant_is_outside(of_sender: str | None, outside: bool) -> None:
    given = event()
    given["event"]["sender"]["tenant_key"] = of_sender
    assert read(given).outside is outside


def test_topic_is_a_separate_conversation() -> None:
    assert read(event(thread_id="omt_1")).conversation == ConversationKey("feishu", "oc_1", "omt_1")


@pytest.mark.parametrize(
    ("text", "shown", "addressed"),
    [
        ("@_user_1 hello", "hello", True),
        ("@_user_1hello", "hello", True),
        ("hello @_user_1", "hello", True),
        ("hey @_user_1 hello", "hey hello", True),
        ("@_user_1 ask @_user_2 now", "ask @Bob now", True),
        ("@_user_1\n    indented  twice", "indented  twice", True),
        ("@_user_1 keep @_user_12 and @_user_3", "keep @Zoë and @_user_3", True),
        ("@_user_1", "", True),
    ],
)
def test_mention_of_bot_is_removed(text: str, shown: str, addressed: bool) -> None:
    mentions = [mention(1, BOT, "Clawd"), mention(2, "ou_bob", "Bob"), mention(12, "ou_zoe", "Zoë")]
    inbound = read(event({"text": text}, chat_type="group", mentions=mentions))
    assert (inbound.text, inbound.addressed, inbound.chat_kind) == (shown, addressed, "group")


@pytest.mark.parametrize("mentions", [[], None, [mention(1, "ou_bob", "Bob")]])
def test_group_message_is_addressed_only_with_mention(mentions: Any) -> None:
    assert not read(event({"text": "@_user_1 hi"}, chat_type="group", mentions=mentions)).addressed


def test_no_mention_is_recognised_without_own_id() -> None:
    unknown = {"key": "@_user_1", "id": {"open_id": None}, "name": "gone"}
    assert not read(event(chat_type="group", mentions=[unknown]), bot=None).addressed
    assert is_addressable_group(event(chat_type="group", mentions=[unknown]))
    assert not is_addressable_group(event(chat_type="group"))
    assert not is_addressable_group(event(mentions=[unknown]))
    assert not is_addressable_group({"event": None})


NO_IDS = {"open_id": "", "union_id": "", "user_id": ""}


@pytest.mark.parametrize(
    ("mentioned", "text", "shown"),
    [
        ({"key": "@_all", "id": NO_IDS, "name": "所有人"}, "@_all lunch", "@all lunch"),
        ({"key": "@_user_1", "id": NO_IDS, "name": "Bob"}, "@_user_1 lunch", "@Bob lunch"),
        ({"key": "@_user_1", "id": "", "name": ""}, "@_user_1 lunch", "@someone lunch"),
        ({"key": "@_user_1", "id": {}, "name": None}, "@_user_1 lunch", "@someone lunch"),
    ],
)
def test_message_with_mention_without_id_is_read(mentioned: dict[str, Any], text: str, shown: str) -> None:
    given = event({"text": text}, chat_type="group", mentions=[mentioned, mention(2, BOT, "Clawd")])
    inbound = read(given)
    assert (inbound.text, inbound.addressed) == (shown, True)
    assert is_addressable_group(given)
    del given["event"]["message"]["mentions"][1]
    assert not read(given).addressed


@pytest.mark.parametrize("field", ["thread_id", "parent_id", "root_id", "upper_message_id"])
def test_empty_optional_id_is_absent(field: str) -> None:
    assert read(event(**{field: ""})) == read(event())


def test_sender_without_id_is_refused() -> None:
    given = event()
    given["event"]["sender"]["sender_id"]["open_id"] = ""
    with pytest.raises(ForeignJsonError, match="open_id"):
        read_message(given, BOT)


POST = {
    "title": "Plan",
    "content": [
        [
            {"tag": "at", "user_id": "@_user_1", "user_name": "Clawd"},
            {"tag": "text", "text": " see ", "style": ["bold"]},
            {"tag": "a", "text": "the page", "href": "https://example.com"},
        ],
        [{"tag": "img", "image_key": "img_1"}],
        [{"tag": "code_block", "language": "PYTHON", "text": "x = 1\n"}, {"tag": "emotion"}],
    ],
}


@pytest.mark.parametrize("content", [POST, {"zh_cn": POST}])
def test_rich_text_is_read(content: dict[str, Any]) -> None:
    inbound = read(event(content, message_type="post", mentions=[mention(1, BOT, "Clawd")]))
    assert inbound.text == "Plan\nsee the page (https://example.com)\n\nx = 1"


@pytest.mark.parametrize("kind", ["image", "audio", "file", "sticker", "interactive", "new_kind"])
def test_other_message_types_have_no_text(kind: str) -> None:
    assert read(event({"image_key": "img"}, message_type=kind)).text == ""


def test_content_that_is_not_json_has_no_text() -> None:
    forwarded = event(message_type="merge_forward")
    forwarded["event"]["message"]["content"] = "Merged and Forwarded Message"
    assert read(forwarded).text == ""


def test_other_events_and_bots_are_ignored() -> None:
    reaction = event()
    reaction["header"]["event_type"] = "im.message.reaction.created_v1"
    assert read_message(reaction, BOT) is None
    bot = event()
    bot["event"]["sender"]["sender_type"] = "app"
    assert read_message(bot, BOT) is None


@pytest.mark.parametrize("missing", ["message_id", "chat_id", "create_time", "content", "message_type"])
def test_incomplete_message_is_refused_with_field_name(missing: str) -> None:
    broken = event()
    del broken["event"]["message"][missing]
    with pytest.raises(ForeignJsonError, match=rf"event\.message\.{missing}"):
        read_message(broken, BOT)


LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
NONSENSE = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(st.sampled_from(["message", "sender", "content", "mentions", "header"]), NONSENSE)
def test_any_event_is_read_or_refused(where: str, nonsense: Any) -> None:
    broken = event()
    match where:
        case "header":
            broken["header"] = nonsense
        case "content":
            broken["event"]["message"]["content"] = json.dumps(nonsense)
        case "mentions":
            broken["event"]["message"]["mentions"] = nonsense
        case _:
            broken["event"][where] = nonsense
    for one in (broken, *(event(nonsense, message_type=kind) for kind in ("post", "image"))):
        try:
            found = read_message(one, BOT)
        except ForeignJsonError:
            continue
        assert found is None or isinstance(found.text, str)


@pytest.mark.parametrize(
    ("kind", "content", "part"),
    [
        ("image", {"image_key": "img_1"}, MessagePart("picture")),
        ("file", {"file_key": "f", "file_name": "report.pdf"}, MessagePart("file", "report.pdf")),
        ("audio", {"file_key": "f", "duration": 2000}, MessagePart("voice")),
        ("media", {"file_key": "f", "file_name": "clip.mp4"}, MessagePart("video", "clip.mp4")),
        ("sticker", {"file_key": "f"}, MessagePart("sticker")),
        (
            "location",
            {"name": "Shanghai", "longitude": "1", "latitude": "2"},
            MessagePart("location", "Shanghai"),
        ),
        ("share_user", {"user_id": "ou_1"}, MessagePart("contact")),
        ("merge_forward", "Merged and Forwarded Message", MessagePart("forwarded")),
        ("new_kind", {"a": 1}, MessagePart("other", "new_kind")),
        ("file", {"file_name": 7}, MessagePart("file")),
    ],
)
def test_parts_have_kind_and_name(kind: str, content: Any, part: MessagePart) -> None:
    given = event(content, message_type=kind)
    if isinstance(content, str):
        given["event"]["message"]["content"] = content
    inbound = read(given)
    assert (inbound.text, inbound.parts) == ("", (part,))


def test_card_is_read() -> None:
    card = {
        "title": "Build",
        "elements": [
            [{"tag": "text", "text": "failed"}, {"tag": "a", "href": "https://ci", "text": "log"}],
            [{"tag": "img", "image_key": "i"}],
            [{"tag": "button", "text": {"tag": "plain_text", "content": "Retry"}}],
        ],
    }
    inbound = read(event(card, message_type="interactive"))
    assert inbound.text == "Build\nfailedlog (https://ci)\nRetry"
    assert inbound.parts == (MessagePart("picture"),)
    assert read(event({"schema": "2.0"}, message_type="interactive")).parts == (MessagePart("card"),)


def test_pictures_of_rich_text_are_parts() -> None:
    inbound = read(event(POST, message_type="post", mentions=[mention(1, BOT, "Clawd")]))
    assert inbound.parts == (MessagePart("picture"),)


@pytest.mark.parametrize(
    ("piece", "part"),
    [
        ({"tag": "doc_card", "title": "Plan 2026", "url": "https://x"}, MessagePart("file", "Plan 2026")),
        ({"tag": "mention_doc", "text": "Plan 2026"}, MessagePart("file", "Plan 2026")),
        ({"tag": "sheet"}, MessagePart("file")),
        ({"tag": "audio", "file_key": "k"}, MessagePart("voice")),
        ({"tag": "hologram", "data": {"x": 1}}, MessagePart("other", "hologram")),
        ({"tag": "hologram", "name": "Ada"}, MessagePart("other", "Ada")),
        ({"tag": "h" * 90}, MessagePart("other", "h" * 40)),
    ],
)
@pytest.mark.parametrize("kind", ["post", "interactive"])
def test_piece_of_unknown_type_is_named(piece: dict[str, Any], part: MessagePart, kind: str) -> None:
    lines = [[{"tag": "text", "text": "see "}, piece, {"tag": "text", "text": "this"}]]
    content = {"content": lines} if kind == "post" else {"elements": lines}
    inbound = read(event(content, message_type=kind))
    assert (inbound.text, inbound.parts) == ("see this", (part,))


@pytest.mark.parametrize("tag", ["hr", "br", "text", "md", "div", "emotion", "column_set", "a"])
def test_text_only_piece_is_not_an_unknown_part(tag: str) -> None:
    inbound = read(event({"content": [[{"tag": tag}, {"tag": "text", "text": "this"}]]}, message_type="post"))
    assert (inbound.text, inbound.parts) == ("this", ())


@pytest.mark.parametrize(
    ("piece", "shown", "addressed"),
    [
        ({"tag": "at", "user_id": BOT, "user_name": "Clawd"}, "see this", True),
        ({"tag": "at", "user_id": "ou_bob", "user_name": "Bob"}, "@Bob see this", False),
        ({"tag": "at", "user_id": "ou_unknown"}, "@someone see this", False),
        ({"tag": "at", "user_id": "@_user_2", "user_name": "wrong"}, "@Bob see this", False),
        ({"tag": "at", "user_id": "@_user_9", "user_name": "Zoë"}, "@Zoë see this", False),
        ({"tag": "at", "user_id": "all"}, "@all see this", False),
        ({"tag": "at", "user_id": "@_all"}, "@all see this", False),
        ({"tag": "md", "text": f"<at user_id='{BOT}'>Clawd</at>"}, "see this", True),
        ({"tag": "md", "text": '<at id="ou_bob">Bob</at>'}, "@Bob see this", False),
    ],
)
def test_mentions_of_rich_text_become_names(piece: dict[str, Any], shown: str, addressed: bool) -> None:
    post = {"content": [[piece, {"tag": "text", "text": " see this"}]]}
    mentions = [mention(2, "ou_bob", "Bob")]
    given = event(post, message_type="post", chat_type="group", mentions=mentions)
    inbound = read(given)
    assert (inbound.text, inbound.addressed) == (shown, addressed)
    assert is_addressable_group(given)
    del given["event"]["message"]["mentions"]
    assert is_addressable_group(given)


def test_mention_of_everyone_stays_in_text() -> None:
    assert read(event({"text": "@_all lunch"})).text == "@all lunch"


def test_reply_has_reference_to_quoted_message() -> None:
    assert read(event(parent_id="om_0")).quote == Quote(ref="om_0")
    assert read(event(parent_id="")).quote is None


def test_future_message_time_becomes_now() -> None:
    found = read_message(event(create_time="9" * 15), BOT, now=1000.0)
    assert found is not None
    assert found.received_at == 1000.0
