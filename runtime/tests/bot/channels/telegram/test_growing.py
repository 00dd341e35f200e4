"""Growing answers in messages of Telegram, with the stand-in of the Bot API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.channels.base import DeliveryUnknown, RetryLater, StreamGone
from clawd_runtime.bot.text.splitting import utf16_units
from clawd_runtime.bot.values import ConversationKey, Inbound, Piece, Reply, Shown, reply_key
from tests.bot.channels.telegram_bench import CHAT, bot_api, channel
from tests.standins.control import Control

GROUP = -100


@pytest.fixture
def standin() -> Iterator[Control]:
    with bot_api() as control:
        control.post("chats", id=GROUP, type="supergroup", title="Team", threads=[50])
        control.post("limits", chat=[100, 1.0], group=[100, 60.0])
        yield control


def inbound(chat: int = GROUP, kind: Any = "group", thread: str = "") -> Inbound:
    place = ConversationKey("telegram", str(chat), thread)
    return Inbound("1000:1", "m", place, kind, "7", "hi", True, "1", 0.0)


def reply(text: str, ref: str, formatting: str = "") -> Reply:
    where = ConversationKey("telegram", str(GROUP))
    shown = Shown(ref, 1)
    return Reply(
        *(reply_key("telegram", "1000:1", 0), "1000:1", where, "group", "1", text),
        formatting=formatting,
        shown=shown,
    )


async def test_answer_grows_by_edits_of_one_reply_in_its_topic(standin: Control) -> None:
    asked = standin.post("messages", text="hello", chat={"id": GROUP}, message_thread_id=50)["message"]
    question = replace(inbound(thread="50"), reply_to=str(asked["message_id"]))
    async with channel(standin.base_url) as telegram:
        ref = await telegram.open(question, Shown("", 1), Piece("**one**"))
        await telegram.update(question, Shown(ref, 2), Piece("**one** two"))
        assert (await telegram.send(reply("one two three", ref))).id == ref
    [message] = standin.get("sent")
    assert message["text"] == "one two three"
    assert message["message_thread_id"] == 50
    assert message["reply_to_message"]["message_id"] == asked["message_id"]
    texts = [call["params"]["text"] for call in standin.get("calls")]
    assert texts == ["one …", "one two …", "one two three"]


async def test_notice_is_shown_as_it_is(standin: Control) -> None:
    async with channel(standin.base_url) as telegram:
        await telegram.open(inbound(), Shown("", 1), Piece("3 *ahead*", is_notice=True))
    assert [message["text"] for message in standin.get("sent")] == ["3 *ahead*"]


@pytest.mark.parametrize("text", ["x" * 20_000, "😀" * 9000, "**" + "é" * 5000 + "** and `code`" * 500])
async def test_long_growing_answer_fits_into_a_message(standin: Control, text: str) -> None:
    async with channel(standin.base_url) as telegram:
        await telegram.open(inbound(), Shown("", 1), Piece(text))
    [message] = standin.get("sent")
    assert utf16_units(message["text"]) <= 4096
    assert message["text"].endswith(" …")


async def test_repeated_completion_is_no_error(standin: Control) -> None:
    async with channel(standin.base_url) as telegram:
        ref = await telegram.open(inbound(), Shown("", 1), Piece("one"))
        for _ in range(2):
            await telegram.send(reply("one two", ref))
    assert [message["text"] for message in standin.get("sent")] == ["one two"]


async def test_refused_entities_do_not_prevent_completion(standin: Control) -> None:
    bad = json.dumps([{"type": "text_link", "offset": 0, "length": 3, "url": "nothing to open"}])
    async with channel(standin.base_url) as telegram:
        ref = await telegram.open(inbound(), Shown("", 1), Piece("one"))
        await telegram.send(reply("one two", ref, bad))
    assert [message["text"] for message in standin.get("sent")] == ["one (nothing to open) two"]


@pytest.mark.parametrize("ref", ["999", "no number"])
async def test_message_that_cannot_be_edited_is_gone(standin: Control, ref: str) -> None:
    async with channel(standin.base_url) as telegram:
        with pytest.raises(StreamGone):
            await telegram.send(reply("one two", ref))
    assert standin.get("sent") == []


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"drop": "after"}, DeliveryUnknown),
        ({"status": 502}, DeliveryUnknown),
        ({"status": 401, "body": {"ok": False, "error_code": 401, "description": "No"}}, RetryLater),
        ({"status": 429, "body": {"ok": False, "error_code": 429}}, RetryLater),
    ],
)
async def test_failed_completion_is_not_taken_for_a_gone_message(
    standin: Control, fault: dict[str, Any], outcome: type[Exception]
) -> None:
    async with channel(standin.base_url) as telegram:
        ref = await telegram.open(inbound(), Shown("", 1), Piece("one"))
        standin.post("faults", match="editMessageText", **fault)
        with pytest.raises(outcome):
            await telegram.send(reply("one two", ref))


async def test_private_chats_have_drafts_as_long_as_the_server_knows_them() -> None:
    def unknown(request: httpx.Request) -> httpx.Response:
        return httpx.Response(404, json={"ok": False, "error_code": 404, "description": "Not Found"})

    async with channel("http://api", transport=httpx.MockTransport(unknown)) as telegram:
        private, group = inbound(CHAT, "private"), inbound()
        modes = [telegram.streaming(each) for each in (private, group)]
        assert [mode and mode.notices_only for mode in modes] == [True, False]
        async with telegram.answering(private) as progress:
            progress.show("one")
            while (mode := telegram.streaming(private)) and mode.notices_only:
                await asyncio.sleep(0.01)
        assert mode is not None
