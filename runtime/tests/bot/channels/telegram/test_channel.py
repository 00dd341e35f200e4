"""Sending to the stand-in of the Bot API, and the channel's settings."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.channels.base import (
    ChannelContext,
    DeliveryError,
    DeliveryUnknown,
    RetryLater,
    Undeliverable,
)
from clawd_runtime.bot.channels.telegram.channel import TelegramChannel, TelegramSettings
from clawd_runtime.bot.credentials import Credentials
from clawd_runtime.bot.text.splitting import utf16_units
from clawd_runtime.bot.values import ConversationKey, Reply, SentRef, reply_key
from clawd_runtime.errors import SettingsError
from tests.bot.channels.fakes import MemoryInbox
from tests.bot.channels.telegram_bench import CHAT, SECRET, TOKEN, bot_api, channel
from tests.standins.control import Control


@pytest.fixture
def standin() -> Iterator[Control]:
    with bot_api() as control:
        yield control


def reply(text: str = "hi", *, thread: str = "", chat: int = CHAT, part: int = 0) -> Reply:
    return Reply(
        key=reply_key("telegram", "1", part),
        event_id="1",
        conversation=ConversationKey("telegram", str(chat), thread),
        chat_kind="private",
        reply_to="1",
        text=text,
        part=part,
        parts=2,
    )


async def send(base: str, what: Reply, **more: Any) -> SentRef:
    async with channel(base, **more) as telegram:
        return await telegram.send(what)


async def test_message_is_sent_as_reply(standin: Control) -> None:
    asked = standin.post("messages", text="hello")["message"]
    sent = await send(standin.base_url, reply("**plain** <b>text</b> & more"))
    [message] = standin.get("sent")
    assert message["text"] == "**plain** <b>text</b> & more"
    assert message["reply_to_message"]["message_id"] == asked["message_id"]
    assert sent.id == str(message["message_id"])


async def test_only_first_part_is_a_reply_and_topic_is_kept(standin: Control) -> None:
    standin.post("chats", id=-100, type="supergroup", title="Team", threads=[50])
    await send(standin.base_url, reply(thread="50", chat=-100, part=1))
    [message] = standin.get("sent")
    assert message["message_thread_id"] == 50
    assert "reply_to_message" not in message


async def test_deleted_message_can_be_answered(standin: Control) -> None:
    await send(standin.base_url, reply())
    assert "reply_to_message" not in standin.get("sent")[0]


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ({"drop": "after"}, DeliveryUnknown),
        ({"drop": "before"}, DeliveryUnknown),
        ({"status": 502}, DeliveryUnknown),
        ({"status": 200, "body": {"ok": True, "result": {}}}, DeliveryUnknown),
        (
            {"status": 429, "body": {"ok": False, "error_code": 429, "parameters": {"retry_after": 3}}},
            RetryLater,
        ),
        (
            {"status": 401, "body": {"ok": False, "error_code": 401, "description": "Unauthorized"}},
            RetryLater,
        ),
        ({"status": 400, "body": {"ok": False, "error_code": 400, "description": "Bad"}}, Undeliverable),
    ],
)
async def test_delivery_error_by_response(
    standin: Control, fault: dict[str, Any], outcome: type[DeliveryError]
) -> None:
    standin.post("faults", match="sendMessage", **fault)
    with pytest.raises(outcome) as caught:
        await send(standin.base_url, reply())
    assert TOKEN.partition(":")[2] not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_chat_rate_limit_is_retried_later(standin: Control) -> None:
    await send(standin.base_url, reply())
    with pytest.raises(RetryLater) as caught:
        await send(standin.base_url, reply(part=1))
    assert caught.value.after == 1.0


async def test_blocked_bot_is_undeliverable(standin: Control) -> None:
    standin.post("chats", id=CHAT, state="blocked")
    with pytest.raises(Undeliverable, match="403"):
        await send(standin.base_url, reply())


async def test_refused_connection_is_retried_later(unused_tcp_port: int) -> None:
    with pytest.raises(RetryLater):
        await send(f"http://127.0.0.1:{unused_tcp_port}", reply())


@pytest.fixture
def unused_tcp_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_timeout_is_delivery_unknown() -> None:
    def slow(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("", request=request)

    with pytest.raises(DeliveryUnknown):
        await send("http://api", reply(), transport=httpx.MockTransport(slow))


@pytest.mark.parametrize("status", [400, 403, 404, 407, 413])
async def test_refusal_of_proxy_is_retried_later(status: int) -> None:
    """`api_base` may be a relay, and a company's proxy may be in between: they respond with HTML."""

    def refused(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, html="<h1>Access denied</h1>")

    with pytest.raises(RetryLater):
        await send("http://api", reply(), transport=httpx.MockTransport(refused))


@pytest.mark.parametrize("seconds", [0, -5, 0.001, "0"])
async def test_rate_limit_waits_at_least_a_second(seconds: Any) -> None:
    def limited(request: httpx.Request) -> httpx.Response:
        parameters = {"retry_after": seconds}
        return httpx.Response(429, json={"ok": False, "error_code": 429, "parameters": parameters})

    with pytest.raises(RetryLater) as caught:
        await send("http://api", reply(), transport=httpx.MockTransport(limited))
    assert caught.value.after == 1.0


async def test_message_follows_migrated_group() -> None:
    chats: list[int] = []

    def moved(request: httpx.Request) -> httpx.Response:
        chats.append(json.loads(request.content)["chat_id"])
        if chats[-1] == -5:
            parameters = {"migrate_to_chat_id": -1005}
            return httpx.Response(400, json={"ok": False, "error_code": 400, "parameters": parameters})
        return httpx.Response(200, json={"ok": True, "result": {"message_id": 3}})

    assert await send("http://api", reply(chat=-5), transport=httpx.MockTransport(moved)) == SentRef("3")
    assert chats == [-5, -1005]


async def test_parts_fit_telegram_limit(standin: Control) -> None:
    async with channel(standin.base_url) as telegram:
        parts = telegram.split("一二三四五😀。" * 1500)
    assert [utf16_units(part) <= 4096 for part in parts] == [True] * 3
    standin.post("limits", chat=[100, 1.0])
    for part in parts:
        await send(standin.base_url, reply(part))


def test_missing_settings_are_reported() -> None:
    context = ChannelContext(MemoryInbox(), httpx.AsyncClient(), Credentials({"telegram-token": "x"}), None)
    with pytest.raises(SettingsError, match="telegram-token"):
        TelegramChannel(TelegramSettings(mode="polling"), context)
    for secret, url, said in ((SECRET, None, "public_url"), ("with space", "https://x", "secret-token")):
        credentials = Credentials({"telegram-token": TOKEN, "telegram-secret-token": secret})
        with pytest.raises(SettingsError, match=said) as caught:
            TelegramChannel(
                TelegramSettings(), ChannelContext(MemoryInbox(), httpx.AsyncClient(), credentials, url)
            )
        assert secret not in str(caught.value)


def test_required_credentials_by_mode() -> None:
    both = ("telegram-token", "telegram-secret-token")
    assert TelegramChannel.credentials(TelegramSettings()) == both
    assert TelegramChannel.credentials(TelegramSettings(mode="polling")) == both[:1]


@pytest.mark.parametrize("part", [0, 1])
@pytest.mark.parametrize("gone", ["deleted", "closed"])
async def test_answer_to_deleted_topic_goes_to_chat_once(standin: Control, gone: str, part: int) -> None:
    closed = [50] if gone == "closed" else []
    standin.post("chats", id=-100, type="supergroup", title="Team", threads=[51], closed_threads=closed)
    await send(standin.base_url, reply(thread="50", chat=-100, part=part))
    [message] = standin.get("sent")
    assert "message_thread_id" not in message
    assert [call["method"] for call in standin.get("calls")].count("sendmessage") == 2


@pytest.mark.parametrize(
    "description",
    [
        "Bad Request: message thread not found",
        "Bad Request: TOPIC_CLOSED",
        "Bad Request: TOPIC_DELETED",
        "Bad Request: message to be replied not found",
        "Bad Request: replied message not found",
        "Bad Request: REPLY_MESSAGE_ID_INVALID",
    ],
)
async def test_deleted_topic_or_message_is_omitted_once(description: str) -> None:
    tried: list[dict[str, Any]] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        tried.append(json.loads(request.content))
        return httpx.Response(400, json={"ok": False, "error_code": 400, "description": description})

    with pytest.raises(Undeliverable):
        await send("http://api", reply(thread="50"), transport=httpx.MockTransport(refuse))
    first, second = tried
    assert {"message_thread_id", "reply_parameters"} <= first.keys()
    assert second == {"chat_id": CHAT, "text": "hi"}


@pytest.mark.parametrize(
    ("code", "description"),
    [
        (400, "Bad Request: chat not found"),
        (400, "Bad Request: not enough rights to send text messages to the chat"),
        (400, "Bad Request: CHAT_WRITE_FORBIDDEN"),
        (400, "Bad Request: message is too long"),
        (403, "Forbidden: bot was blocked by the user"),
        (403, "Forbidden: bot was kicked from the supergroup chat"),
        (403, "Forbidden: user is deactivated"),
    ],
)
async def test_deleted_chat_is_tried_once(code: int, description: str) -> None:
    tried = 0

    def refuse(request: httpx.Request) -> httpx.Response:
        nonlocal tried
        tried += 1
        return httpx.Response(code, json={"ok": False, "error_code": code, "description": description})

    with pytest.raises(Undeliverable):
        await send("http://api", reply(thread="50"), transport=httpx.MockTransport(refuse))
    assert tried == 1


async def test_circular_group_migration_ends() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        parameters = {"migrate_to_chat_id": CHAT}
        body = {"ok": False, "error_code": 400, "description": "upgraded", "parameters": parameters}
        return httpx.Response(400, json=body)

    with pytest.raises(Undeliverable):
        await send("http://api", reply(), transport=httpx.MockTransport(refuse))


@pytest.mark.parametrize("chat", ["oc_team", "", "٣", "1" * 40, "7; DROP", "0x7"])
async def test_chat_that_is_not_a_number_is_undeliverable(chat: str) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing is to be sent")

    odd = reply()
    odd = replace(odd, conversation=ConversationKey("telegram", chat))
    with pytest.raises(Undeliverable, match="is not a chat id"):
        await send("http://api", odd, transport=httpx.MockTransport(refuse))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 50_000,
        b'{"ok": true, "result": {"message_id": %s}}' % (b"9" * 400),
        b'{"ok": 1, "result": {"message_id": 1}}',
        b'{"ok": false, "error_code": 1e400, "description": "x"}',
        b'{"ok": false, "error_code": 400, "description": {}}',
        b'{"ok": false, "error_code": 400, "parameters": {"migrate_to_chat_id": true}}',
    ],
)
async def test_unreadable_response_is_delivery_unknown(body: bytes) -> None:
    with pytest.raises(DeliveryUnknown):
        await send(
            "http://api", reply(), transport=httpx.MockTransport(lambda _: httpx.Response(200, content=body))
        )
