"""Markdown answers as cards: read by markdown-it-py, sent to the strict stand-in by the channel."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from hypothesis import example, given, settings
from markdown_it import MarkdownIt

from clawd_runtime.bot.channels.base import ChannelContext, DeliveryUnknown, Undeliverable
from clawd_runtime.bot.channels.feishu import cards
from clawd_runtime.bot.channels.feishu.cards import formatted, messages
from clawd_runtime.bot.channels.feishu.channel import FeishuChannel, FeishuSettings
from clawd_runtime.bot.credentials import Credentials as Secrets
from clawd_runtime.bot.text.markdown.blocks import Block, Code, Heading, Paragraph, Rule, Table
from clawd_runtime.bot.text.markdown.reading import read_markdown
from clawd_runtime.bot.values import Content, ConversationKey, Reply, reply_key
from tests.bot.channels.fakes import MemoryInbox
from tests.bot.text.markdown.documents import HOSTILE, calls, documents, letters, texts
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.cards import check_card
from tests.standins.feishu.state import Credentials
from tests.standins.serve import serving

APP = Credentials()
SECRETS = Secrets(
    {
        "feishu-app-secret": APP.app_secret,
        "feishu-encrypt-key": APP.encrypt_key,
        "feishu-verification-token": APP.verification_token,
    }
)
READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TABLE = "| a | b |\n|---|---|\n| {} | 2 |\n\n"


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(FeishuStandin(APP, pace=0.01).app) as base_url:
        yield base_url


@pytest.fixture
def control(served: str) -> Iterator[Control]:
    with Control(served) as control:
        control.post("reset")
        control.post("limits", receiver=[1000, 1.0])
        yield control


def channel(base: str, http: httpx.AsyncClient) -> FeishuChannel:
    settings = FeishuSettings(app_id=APP.app_id, api_base=base)
    return FeishuChannel(settings, ChannelContext(MemoryInbox(), http, SECRETS, None))


def answers(message: dict[str, Any], contents: tuple[Content, ...]) -> list[Reply]:
    return [
        Reply(
            key=reply_key("feishu", "e1", number),
            event_id="e1",
            conversation=ConversationKey("feishu", message["chat_id"]),
            chat_kind="private",
            reply_to=message["message_id"],
            text=content.text,
            formatting=content.formatting,
            part=number,
            parts=len(contents),
        )
        for number, content in enumerate(contents)
    ]


async def send(control: Control, *replies: Reply) -> list[str]:
    async with httpx.AsyncClient(trust_env=False) as http:
        ours = channel(control.base_url, http)
        return [(await ours.send(reply)).id for reply in replies]


def asked(control: Control) -> dict[str, Any]:
    message: dict[str, Any] = control.post("messages", text="how?")["message"]
    return message


def markdown_of(content: Content) -> str:
    (element,) = json.loads(content.formatting)["body"]["elements"]
    markdown: str = element["content"]
    return markdown


def read(markdown: str) -> str:
    """Return the text that markdown-it-py reads, with the languages of code, which cards show above it."""
    found = []
    for token in READER.parse(markdown):
        found += [token.info, token.content] if token.type == "fence" else []
        for inner in token.children or ():
            is_break = inner.type in ("softbreak", "hardbreak") or inner.content == "<br>"
            found.append("\n" if is_break else inner.content)
    return "".join(found)


def checked(contents: tuple[Content, ...]) -> str:
    """Return the text of cards, which the platform must accept."""
    for content in contents:
        check_card(json.loads(content.formatting))
        assert len(content.formatting.encode()) < 30 * 1024
        assert content.text.strip()
    return "".join(read(markdown_of(content)) for content in contents)


@example("```a---\n*")
@given(texts)
@settings(max_examples=300, deadline=None)
def test_cards_show_every_letter_of_any_text(source: str) -> None:
    contents = formatted(source)
    if not contents:  # the plain text says the same
        return
    shown = checked(contents)
    missing = list(letters(re.sub(r"<br>|https?://[\w./()]*|tg://[\w?=]*", "", source)))
    for letter in letters(shown):
        if letter in missing:
            missing.remove(letter)
    assert not missing


@example("> - - > a")
@given(documents)
@settings(max_examples=200, deadline=None)
def test_another_parser_reads_the_text_of_the_blocks_in_order(source: str) -> None:
    contents = messages(source)
    shown = letters(checked(contents))
    expected = [text for block in read_markdown(source) for text in _texts_of(block)]
    assert not contents or shown == letters("".join(expected))


def _texts_of(block: Block) -> list[str]:
    match block:
        case Paragraph(_, text) | Heading(_, text):
            return [text.text]
        case Code(_, code, language):
            return [language, code]
        case Table(_, head, rows):
            return [cell.text for row in (head, *rows) for cell in row]
        case Rule():
            return []


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_becomes_cards_with_linear_work(kind: str) -> None:
    source = HOSTILE[kind]
    assert calls(lambda: formatted(source)) <= 100 * len(source)
    contents = formatted(source)
    checked(contents)


def test_headings_lists_code_links_and_quotes() -> None:
    source = (
        "# A **b**\n\n1. one\n   - two\n\n     more\n2. three\n\n```py\nx = 1\n```\n\n3. [x] four\n"
        "\n> q **r**\n\n![i](https://example.com/i.png) <b> a_b 2*3"
    )
    (content,) = messages(source)
    assert markdown_of(content) == (
        "# A b\n\n1. one\n    - two\n\n        more\n2. three\n\n```py\nx = 1\n```\n\n3. ☑ four\n\n"
        "> q **r**\n\n[i](https://example.com/i.png) &#60;b> a_b 2&#42;3"
    )
    assert json.loads(content.formatting)["config"]["summary"]["content"].startswith("A b 1. one")
    assert content.text.startswith("A b\n\n1. one\n   ◦ two")


@pytest.mark.parametrize("source", ["Hello.", "Two\n\nparagraphs, 2 * 3 and https://example.com/x"])
def test_text_without_formatting_is_no_card(source: str) -> None:
    assert formatted(source) == ()
    assert channel("http://unused", httpx.AsyncClient()).formatted(source) == (Content(source),)


async def test_more_tables_than_a_card_may_have_become_several_cards(control: Control) -> None:
    """230099/11310 loses the reply: openclaw-lark 53."""
    contents = formatted("".join(TABLE.format(number) for number in range(8)))
    await send(control, *answers(asked(control), contents))
    sent = control.get("sent")
    assert [each["msg_type"] for each in sent] == ["interactive"] * 3
    assert [markdown_of(content).count("| --- |") for content in contents] == [3, 3, 2]


def test_tables_beyond_several_cards_are_text() -> None:
    contents = formatted("".join(TABLE.format(number) for number in range(40)))
    assert len(contents) <= 6
    assert sum(markdown_of(content).count("| --- |") for content in contents) == 15
    checked(contents)
    shown = "\n".join(content.text for content in contents)
    assert re.findall(r"(?m)^(\d+) *\|", shown) == [str(number) for number in range(40)]


@pytest.mark.parametrize(
    "source",
    [
        "```py\n" + "    x = '中文'\n" * 4000 + "```",
        "```\n" + "x" * 90_000 + "\n```",
        "| a | b |\n|---|---|\n" + "| 中文 | 2 |\n" * 3000,
        "| " + "a" * 40_000 + " |\n|---|\n| b |\n",
        "- " + "**word** " * 12_000,
        "> " + "中" * 40_000,
        "*a* " + "<&*_" * 10_000,
    ],
    ids=lambda source: source[:8],
)
def test_large_blocks_are_split_into_cards(source: str) -> None:
    contents = formatted(source)
    assert len(contents) > 1
    assert letters(checked(contents)).count("a") >= letters(source).count("a")


async def test_repeated_card_is_sent_once(control: Control) -> None:
    (reply,) = answers(asked(control), formatted("**a**"))
    control.post("faults", match="/reply", drop="after")
    with pytest.raises(DeliveryUnknown):
        await send(control, reply)
    await send(control, replace(reply, attempt=2))
    (sent,) = control.get("sent")
    assert sent["msg_type"] == "interactive"


@pytest.mark.parametrize("code", [230099, 230025, 230001, 200621, 1])
async def test_refused_card_is_sent_as_text_once(control: Control, code: int) -> None:
    (reply,) = answers(asked(control), formatted("- **a** [b](https://example.com)"))
    body = {"code": code, "msg": "Failed to create card content, ext=ErrCode: 11310"}
    control.post("faults", match="/reply", status=400, body=body)
    first = await send(control, reply)
    control.post("faults", match="/reply", status=400, body=body)
    assert await send(control, reply) == first
    (sent,) = control.get("sent")
    assert json.loads(sent["body"]["content"]) == {"text": "• a b (https://example.com)"}


async def test_card_whose_fate_stays_unknown_is_sent_as_text(control: Control) -> None:
    (reply,) = answers(asked(control), formatted("**a**"))
    control.post("faults", match="/reply", status=500, times=3)
    for attempt in (1, 2, 3):
        with pytest.raises(DeliveryUnknown):
            await send(control, replace(reply, attempt=attempt))
    await send(control, replace(reply, attempt=4))
    assert [each["msg_type"] for each in control.get("sent")] == ["text"]


async def test_card_goes_to_the_chat_if_the_message_is_gone(control: Control) -> None:
    message = asked(control)
    control.post("recall", message_id=message["message_id"])
    await send(control, *answers(message, formatted("**a**")))
    (sent,) = control.get("sent", chat_id=message["chat_id"])
    assert (sent["msg_type"], "parent_id" in sent) == ("interactive", False)


async def test_card_that_cannot_be_delivered_is_tried_as_text_and_given_up(control: Control) -> None:
    message = control.post("messages", text="how?", chat_id="oc_team", mention_bot=True)["message"]
    control.post("chats", id="oc_team", type="group", state="left")
    with pytest.raises(Undeliverable, match="230002"):
        await send(control, *answers(message, formatted("**a**")))


@pytest.mark.parametrize(
    "tag", ["<at id=all></at>", "`<at id=all></at>`", "```\n<at id=all></at>\n```", "<AT id=all>"]
)
def test_card_cannot_mention_everyone(tag: str) -> None:
    (content,) = channel("http://unused", httpx.AsyncClient()).formatted(f"**hey** {tag}")
    assert "<at" not in content.formatting.lower()


def test_notes_are_plain_text_below_an_unfinished_block_of_code() -> None:
    (content,) = formatted("```\nx = 1", "(cut *off*.)")
    assert markdown_of(content) == "```\nx = 1\n```\n\n(cut &#42;off&#42;.)"


def test_error_in_formatting_sends_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "read_markdown", lambda source: 1 / 0)
    assert channel("http://unused", httpx.AsyncClient()).formatted("**a**") == (Content("**a**"),)
