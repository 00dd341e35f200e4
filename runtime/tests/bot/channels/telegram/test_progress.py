"""Progress of an answer, with the stand-in of the Bot API."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.channels.telegram import progress
from clawd_runtime.bot.values import ConversationKey, Inbound
from tests.bot.channels.telegram_bench import CHAT, bot_api, channel, until
from tests.standins.control import Control


@pytest.fixture
def standin() -> Iterator[Control]:
    with bot_api() as control:
        yield control


def inbound(chat: int = CHAT, kind: Any = "private") -> Inbound:
    return Inbound("1000:1", "m", ConversationKey("telegram", str(chat)), kind, "7", "hi", True, "1", 0.0)


async def _answering(base: str, what: Inbound, check: Callable[[], Any]) -> None:
    async with channel(base) as telegram, telegram.answering(what) as progress:
        for text in ("one", "one two", "one two " + "x" * 5000):
            progress.show(text)
            await asyncio.sleep(0.05)
        await until(check)


async def test_draft_grows_in_private_chats(standin: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "DRAFT_EVERY", 0.02)
    check = lambda: [d for d in standin.get("drafts") if len(d["text"]) == 4096]  # noqa: E731
    await _answering(standin.base_url, inbound(), check)
    assert [draft["chat_id"] for draft in standin.get("drafts")] == [CHAT]


async def test_draft_is_formatted_like_the_answer(standin: Control) -> None:
    async with channel(standin.base_url) as telegram, telegram.answering(inbound()) as progress:
        progress.show("**bold** and `co")
        await until(lambda: standin.get("drafts"))
    assert [draft["text"] for draft in standin.get("drafts")] == ["bold and `co"]
    (call,) = [call for call in standin.get("calls") if call["method"] == "sendmessagedraft"]
    assert json.loads(call["params"]["entities"]) == [{"type": "bold", "offset": 0, "length": 4}]


async def test_drafts_are_plain_text_after_one_was_refused(
    standin: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "DRAFT_EVERY", 0.02)
    body = {"ok": False, "error_code": 400, "description": "Bad Request: ENTITY_BOUNDS_INVALID"}
    standin.post("faults", match="sendMessageDraft", status=400, body=body)
    async with channel(standin.base_url) as telegram, telegram.answering(inbound()) as shown:
        shown.show("**a**")
        await asyncio.sleep(0.2)
        shown.show("**a** b")
        await until(lambda: standin.get("drafts"))
    assert [draft["text"] for draft in standin.get("drafts")] == ["**a** b"]


async def test_answer_shown_at_its_end_has_no_draft(standin: Control) -> None:
    async with channel(standin.base_url) as telegram:
        async with telegram.answering(inbound()) as progress:
            await asyncio.sleep(0.05)
            progress.show("Paris")
        await asyncio.sleep(0.1)
    assert standin.get("drafts") == []


async def test_typing_is_shown_in_groups(standin: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "TYPING_LASTS", 0.02)
    standin.post("chats", id=-100, type="supergroup", title="Team")

    def typed() -> bool:
        calls = [call["method"] for call in standin.get("calls")]
        return calls.count("sendchataction") >= 3

    await _answering(standin.base_url, inbound(-100, "group"), typed)
    assert standin.get("drafts") == []


async def test_server_without_drafts_and_typing_does_not_affect_answer() -> None:
    calls: list[str] = []

    def unknown(request: httpx.Request) -> httpx.Response:
        calls.append(request.url.path.rpartition("/")[2])
        return httpx.Response(404, json={"ok": False, "error_code": 404, "description": "Not Found"})

    async with channel("http://api", transport=httpx.MockTransport(unknown)) as telegram:
        for _ in range(2):
            async with telegram.answering(inbound()) as progress:
                progress.show("one")
                await asyncio.sleep(0.02)
    assert calls.count("sendMessageDraft") == 1


async def test_waiting_message_gets_typing_and_one_notice(standin: Control) -> None:
    async with channel(standin.base_url, mode="polling") as telegram:
        await telegram.received(inbound())
        await telegram.waiting(inbound(), lambda: "3 ahead")
    assert [call["method"] for call in standin.get("calls")] == ["sendchataction", "sendmessage"]
    assert [sent["text"] for sent in standin.get("sent")] == ["3 ahead"]


async def test_notices_of_hundreds_of_messages_respect_rate_limit(
    standin: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    chats = range(5000, 5040)
    for chat in chats:
        standin.post("chats", id=chat)

    async with channel(standin.base_url, mode="polling") as telegram:
        begun = time.monotonic()
        await asyncio.gather(*(telegram.received(inbound(chat)) for chat in chats))
        seconds = time.monotonic() - begun
    assert len(chats) / (seconds + 0.1) <= progress.SIGNS_A_SECOND
