"""Markdown answers as Telegram messages, checked by the strict stand-in and by aiogram's own reading."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from aiogram.types import MessageEntity
from aiogram.utils.text_decorations import html_decoration
from hypothesis import given, settings

from clawd_runtime.bot.channels.base import DeliveryUnknown, Undeliverable
from clawd_runtime.bot.channels.telegram import formatting
from clawd_runtime.bot.channels.telegram.formatting import formatted, stored_entities, without_entities
from clawd_runtime.bot.text.splitting import utf16_units
from clawd_runtime.bot.values import Content, ConversationKey, Reply, reply_key
from tests.bot.channels.telegram_bench import CHAT, bot_api, channel
from tests.bot.text.markdown.documents import HOSTILE, calls, documents, letters, texts, words
from tests.standins.control import Control
from tests.standins.telegram.entities import trimmed
from tests.standins.telegram.text import from_html


@pytest.fixture
def standin() -> Iterator[Control]:
    with bot_api() as control:
        control.post("limits", chat=[1000, 1.0])
        yield control


def checked(contents: tuple[Content, ...]) -> str:
    """Return all that people can see or open of messages, which Telegram must accept unchanged."""
    shown = []
    for content in contents:
        entities = stored_entities(content.formatting)
        assert 0 < utf16_units(content.text) <= 4096
        assert trimmed(content.text, entities) == (content.text, entities)
        shown += [content.text, *(entity.get("url", "") + entity.get("language", "") for entity in entities)]
    return "\n".join(shown)


def message(content: Content) -> Reply:
    return Reply(
        key=reply_key("telegram", "1", 0),
        event_id="1",
        conversation=ConversationKey("telegram", str(CHAT)),
        chat_kind="private",
        reply_to="1",
        text=content.text,
        formatting=content.formatting,
    )


async def send(base: str, *contents: Content, **more: Any) -> None:
    async with channel(base, **more) as telegram:
        for content in contents:
            await telegram.send(message(content))


@given(texts)
@settings(max_examples=300, deadline=None)
def test_every_letter_of_any_text_is_delivered(source: str) -> None:
    missing = list(letters(source.replace("<br>", "")))
    shown = checked(formatting.messages(source))
    for letter in letters(shown):
        if letter in missing:
            missing.remove(letter)
    assert not missing


@given(documents)
@settings(max_examples=200, deadline=None)
def test_words_of_a_document_are_delivered_in_order(source: str) -> None:
    shown = iter("".join(content.text for content in formatted(source)))
    assert all(letter in shown for letter in "".join(words(source)))


@given(documents)
@settings(max_examples=100, deadline=None)
def test_aiogram_reads_the_same_entities(source: str) -> None:
    for content in formatted(source):
        entities = stored_entities(content.formatting)
        theirs = html_decoration.unparse(content.text, [MessageEntity(**entity) for entity in entities])
        text, read = from_html(theirs.replace('<code class="language-', '<code x="'))
        assert text == content.text
        kept = [entity for entity in read if not _within_pre(entity, entities)]
        assert sorted((e["offset"], e["length"], e["type"]) for e in kept) == sorted(
            (e["offset"], e["length"], e["type"]) for e in entities
        )


def _within_pre(entity: dict[str, Any], entities: list[dict[str, Any]]) -> bool:
    return entity["type"] == "code" and any(
        each["type"] == "pre" and each["offset"] <= entity["offset"] < each["offset"] + each["length"]
        for each in entities
    )


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_is_formatted_with_linear_work(kind: str) -> None:
    source = HOSTILE[kind]
    assert calls(lambda: formatted(source)) <= 100 * len(source)
    contents = formatted(source)
    checked(contents)
    assert sum(len(content.text) for content in contents) <= 8 * len(source) + 2000


async def test_answer_is_sent_with_entities(standin: Control) -> None:
    source = (
        "# Plan 😀\n\n1. **one** `x`\n   - [x] [two](https://example.com)\n\n> cited\n\n"
        "```py\nprint(1)\n```\n\n|a|名|\n|-|-:|\n|1|2|"
    )
    contents = formatted(source)
    await send(standin.base_url, *contents)
    (sent,) = standin.get("sent")
    assert sent["text"] == ("Plan 😀\n\n1. one x\n   ☑ two\n\ncited\n\nprint(1)\n\na | 名\n--+---\n1 |  2")
    raw = sent["text"].encode("utf-16-le")
    found = [
        (each["type"], raw[2 * each["offset"] : 2 * (each["offset"] + each["length"])].decode("utf-16-le"))
        for each in sent["entities"]
    ]
    assert found == [
        ("bold", "Plan 😀"),
        ("bold", "one"),
        ("code", "x"),
        ("text_link", "two"),
        ("blockquote", "cited"),
        ("pre", "print(1)"),
        ("pre", "a | 名\n--+---\n1 |  2"),
    ]
    assert sent["entities"][5]["language"] == "py"


async def test_long_code_block_continues_in_next_message(standin: Control) -> None:
    lines = [f"    line_{number} = '😀'" for number in range(500)]
    contents = formatted("Code:\n\n```python\n" + "\n".join(lines) + "\n```\n\nEnd.")
    await send(standin.base_url, *contents)
    sent = standin.get("sent")
    assert len(sent) > 2
    assert [[(e["type"], e["language"]) for e in message["entities"]] for message in sent] == [
        [("pre", "python")]
    ] * len(sent)
    assert "\n".join(message["text"] for message in sent).splitlines() == [*("Code:", "", *lines, "", "End.")]


def test_message_has_at_most_100_entities() -> None:
    contents = formatted("**a** b " * 250)
    assert [len(stored_entities(content.formatting)) for content in contents] == [100, 100, 50]


def test_notes_are_plain_text_below_an_unfinished_block_of_code() -> None:
    (content,) = formatted("```\nx = 1", "(My *answer* was cut off here.)")
    assert content.text == "x = 1\n\n(My *answer* was cut off here.)"
    assert stored_entities(content.formatting) == [{"type": "pre", "offset": 0, "length": 5}]


@pytest.mark.parametrize("source", ["#", "> ", "```\n```", "[]()", "\u200b"])
async def test_text_that_would_be_invisible_is_sent_as_it_is(source: str) -> None:
    assert formatted(source) == ()
    async with channel("http://unused") as telegram:
        assert telegram.formatted(source, "note") == (Content(f"{source}\n\nnote".strip()),)


async def test_error_in_formatting_sends_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        """Like the exception of a panic in Rust."""

    for error in (ValueError("a bug"), RecursionError(), PanicException("index out of bounds")):

        def fail(source: str, error: BaseException = error) -> None:
            raise error

        monkeypatch.setattr(formatting, "read_markdown", fail)
        async with channel("http://unused") as telegram:
            assert telegram.formatted("**a**") == (Content("**a**"),)


@pytest.mark.parametrize(
    "description",
    [
        "Bad Request: can't parse entities: Can't find end of the entity starting at byte offset 3",
        "Bad Request: can't parse MessageEntity: Unsupported type specified",
        "Bad Request: entity beginning at UTF-16 offset 0 ends after the end of the text at UTF-16 offset 9",
        "Bad Request: ENTITY_BOUNDS_INVALID",
        "Bad Request: something new",
    ],
)
async def test_refused_entities_are_sent_plain_once(standin: Control, description: str) -> None:
    body = {"ok": False, "error_code": 400, "description": description}
    standin.post("faults", match="sendMessage", status=400, body=body)
    await send(standin.base_url, *formatted("**bold** [link](https://example.com/x)"))
    (sent,) = standin.get("sent")
    assert sent["text"] == "bold link (https://example.com/x)"
    assert "entities" not in sent


async def test_plain_text_that_is_refused_too_is_undeliverable() -> None:
    tried: list[dict[str, Any]] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        tried.append(json.loads(request.content))
        body = {"ok": False, "error_code": 400, "description": "Bad Request: chat not found"}
        return httpx.Response(400, json=body)

    with pytest.raises(Undeliverable):
        await send("http://api", *formatted("**a**"), transport=httpx.MockTransport(refuse))
    assert ["entities" in each for each in tried] == [True, False]


async def test_doubtful_message_with_entities_is_not_sent_again(standin: Control) -> None:
    standin.post("faults", match="sendMessage", drop="after")
    with pytest.raises(DeliveryUnknown):
        await send(standin.base_url, *formatted("**a**"))
    assert [message["text"] for message in standin.get("sent")] == ["a"]


async def test_topic_that_is_gone_keeps_the_formatting(standin: Control) -> None:
    standin.post("chats", id=-100, type="supergroup", title="Team", threads=[51])
    (content,) = formatted("**a**")
    lost = replace(message(content), conversation=ConversationKey("telegram", "-100", "50"))
    async with channel(standin.base_url) as telegram:
        await telegram.send(lost)
    (sent,) = standin.get("sent")
    assert [entity["type"] for entity in sent["entities"]] == ["bold"]


@pytest.mark.parametrize("stored", ["{", "{}", "[1]", "null", '"x"'])
async def test_unreadable_formatting_is_sent_plain(standin: Control, stored: str) -> None:
    await send(standin.base_url, Content("a *b*", stored))
    assert [message["text"] for message in standin.get("sent")] == ["a *b*"]


def test_addresses_are_left_out_where_they_do_not_fit() -> None:
    text = "😀" * 2040 + "link"
    entity = {"type": "text_link", "offset": 4080, "length": 4, "url": "https://example.com/"}
    assert without_entities(text, [entity]) == text
    assert without_entities(text[1000:], [entity | {"offset": 2080}]).endswith("link (https://example.com/)")
