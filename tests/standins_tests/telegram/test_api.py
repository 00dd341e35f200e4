"""The stand-in as aiogram, an independent client, sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import (
    TelegramBadRequest,
    TelegramConflictError,
    TelegramForbiddenError,
    TelegramNetworkError,
    TelegramNotFound,
    TelegramRetryAfter,
    TelegramServerError,
    TelegramUnauthorizedError,
)
from aiogram.methods import DeleteMyCommands
from aiogram.types import BotCommand, ReplyParameters

from tests.standins.control import Control
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin

TOKEN = "1000:test-token"


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(TelegramStandin([TOKEN]).app) as base_url:
        yield base_url


@pytest.fixture
def control(served: str) -> Iterator[Control]:
    with Control(served) as control:
        control.post("reset")
        yield control


@pytest.fixture
def url(control: Control) -> str:
    return control.base_url


@asynccontextmanager
async def calling(url: str, token: str = TOKEN) -> AsyncIterator[Bot]:
    session = AiohttpSession(api=TelegramAPIServer.from_base(url))
    async with Bot(token, session=session) as bot:
        yield bot


def relaxed(control: Control) -> None:
    control.post("limits", chat=[1000, 1.0])


async def test_get_me_returns_the_bot(url: str) -> None:
    async with calling(url) as bot:
        me = await bot.get_me()
        assert (me.id, me.is_bot, me.username) == (1000, True, "clawd_test_bot")


async def test_unknown_token_is_unauthorized(url: str) -> None:
    async with calling(url, token="1000:other") as bot:
        with pytest.raises(TelegramUnauthorizedError):
            await bot.get_me()


async def test_unknown_method_is_not_found(url: str) -> None:
    async with calling(url) as bot:
        with pytest.raises(TelegramNotFound, match="method not found"):
            await bot(DeleteMyCommands())


@pytest.mark.parametrize("way", ["query", "json", "form", "multipart"])
def test_parameters_are_accepted_as_query_json_form_and_multipart(
    url: str, control: Control, way: str
) -> None:
    control.post("chats", id=7)
    address = f"{url}/bot{TOKEN}/SendMessage"
    fields = {"chat_id": "7", "text": "a&b = ü"}
    answer = {
        "query": lambda: httpx.get(address, params=fields, verify=NO_TLS),
        "json": lambda: httpx.post(address, json=fields | {"chat_id": 7}, verify=NO_TLS),
        "form": lambda: httpx.post(address, data=fields, verify=NO_TLS),
        "multipart": lambda: httpx.post(address, data=fields, files={"spare": b"\x00\xff"}, verify=NO_TLS),
    }[way]()
    assert answer.json()["result"]["text"] == "a&b = ü"


async def test_get_updates_returns_an_update_until_it_is_confirmed(url: str, control: Control) -> None:
    first = control.post("messages", text="one")["update_id"]
    second = control.post("messages", text="/help two")["update_id"]

    async with calling(url) as bot:
        one, two = await bot.get_updates(timeout=3)
        assert (one.update_id, two.update_id) == (first, second)
        assert one.message is not None
        assert one.message.text == "one"
        assert two.message is not None
        assert two.message.entities is not None
        assert [(each.type, each.length) for each in two.message.entities] == [("bot_command", 5)]
        assert [each.update_id for each in await bot.get_updates(limit=1)] == [first]
        assert [each.update_id for each in await bot.get_updates(offset=second)] == [second]
        assert (await bot.get_webhook_info()).pending_update_count == 1
        assert await bot.get_updates(offset=second + 1) == []
        assert (await bot.get_webhook_info()).pending_update_count == 0


async def test_long_poll_ends_when_a_message_arrives(url: str, control: Control) -> None:
    async with calling(url) as bot:
        poll = asyncio.create_task(bot.get_updates(timeout=20))
        await asyncio.sleep(0.3)
        await asyncio.to_thread(control.post, "messages", text="news")
        (update,) = await asyncio.wait_for(poll, 3)
        assert update.message is not None
        assert update.message.text == "news"


async def test_older_of_two_pollers_gets_a_conflict_error(url: str, control: Control) -> None:
    async with calling(url) as bot:
        older = asyncio.create_task(bot.get_updates(timeout=20))
        await asyncio.sleep(0.3)
        newer = asyncio.create_task(bot.get_updates(timeout=20))
        with pytest.raises(TelegramConflictError, match="terminated by other getUpdates request"):
            await asyncio.wait_for(older, 3)
        await asyncio.to_thread(control.post, "messages", text="for the newer")
        assert len(await asyncio.wait_for(newer, 3)) == 1


async def test_updates_of_kinds_that_are_not_allowed_are_not_delivered(url: str, control: Control) -> None:
    async with calling(url) as bot:
        await bot.get_updates(allowed_updates=["callback_query"])
        assert (await bot.get_webhook_info()).allowed_updates == ["callback_query"]
        assert (await asyncio.to_thread(control.post, "messages", text="x"))["update_id"] is None
        await bot.get_updates(offset=-1, allowed_updates=["message"])
        assert (await asyncio.to_thread(control.post, "messages", text="x"))["update_id"] is not None


async def test_message_is_sent_as_a_reply(url: str, control: Control) -> None:
    question = control.post("messages", text="how?", message_thread_id=5)["message"]["message_id"]

    async with calling(url) as bot:
        sent = await bot.send_message(
            4711, "so", message_thread_id=5, reply_parameters=ReplyParameters(message_id=question)
        )
        assert sent.reply_to_message is not None
        assert sent.reply_to_message.message_id == question
        assert sent.message_thread_id == 5
    assert [each["text"] for each in control.get("sent", chat_id="4711")] == ["so"]


@pytest.mark.parametrize(
    ("arguments", "refusal"),
    [
        ({"chat_id": 999, "text": "x"}, "chat not found"),
        ({"chat_id": 4711, "text": " "}, "message text is empty"),
        ({"chat_id": 4711, "text": "😀" * 2049}, "message is too long"),
        ({"chat_id": 4711, "text": "x", "message_thread_id": 9}, "message thread not found"),
        (
            {"chat_id": 4711, "text": "x", "reply_parameters": ReplyParameters(message_id=999)},
            "to be replied",
        ),
        ({"chat_id": 4711, "text": "<b>x", "parse_mode": "HTML"}, "find end tag"),
        ({"chat_id": 4711, "text": "<b>x</i>", "parse_mode": "HTML"}, "Unmatched end tag"),
        ({"chat_id": 4711, "text": "a < b", "parse_mode": "HTML"}, "Unsupported start tag"),
        ({"chat_id": 4711, "text": "x", "parse_mode": "Wiki"}, "unsupported parse_mode"),
    ],
)
async def test_invalid_message_is_refused_and_not_sent(
    url: str, control: Control, arguments: dict[str, object], refusal: str
) -> None:
    control.post("chats", id=4711)

    async with calling(url) as bot:
        with pytest.raises(TelegramBadRequest, match=refusal):
            await bot.send_message(**arguments)  # type: ignore[arg-type]
    assert control.get("sent") == []


async def test_message_of_4096_utf16_units_is_accepted(url: str, control: Control) -> None:
    control.post("chats", id=4711)

    async with calling(url) as bot:
        assert (await bot.send_message(4711, "😀" * 2048)).text == "😀" * 2048


async def test_html_becomes_text_and_entities(url: str, control: Control) -> None:
    control.post("chats", id=4711)

    async with calling(url) as bot:
        text = '😀 <b>bold <i>both</i></b> &lt;<a href="https://example.com/?a&amp;b">link</a>'
        sent = await bot.send_message(4711, text, parse_mode="HTML")
        assert sent.text == "😀 bold both <link"
        assert sent.entities is not None
        assert [(each.type, each.extract_from(sent.text)) for each in sent.entities] == [
            ("bold", "bold both"),
            ("italic", "both"),
            ("text_link", "link"),
        ]


@pytest.mark.parametrize("state", ["blocked", "kicked"])
async def test_message_to_a_chat_that_blocked_the_bot_is_forbidden(
    url: str, control: Control, state: str
) -> None:
    control.post("chats", id=4711, state=state)

    async with calling(url) as bot:
        with pytest.raises(TelegramForbiddenError, match=state):
            await bot.send_message(4711, "x")


async def test_second_message_in_a_second_to_one_chat_is_rate_limited(url: str, control: Control) -> None:
    control.post("chats", id=1)
    control.post("chats", id=2)

    async with calling(url) as bot:
        await bot.send_message(1, "first")
        with pytest.raises(TelegramRetryAfter) as refusal:
            await bot.send_message(1, "second")
        assert refusal.value.retry_after == 1
        await bot.send_message(2, "elsewhere")
        await asyncio.sleep(refusal.value.retry_after)
        await bot.send_message(1, "second")


async def test_message_31_in_a_second_to_any_chats_is_rate_limited(url: str, control: Control) -> None:
    for chat in range(1, 32):
        control.post("chats", id=chat)

    async with calling(url) as bot:
        answers = await asyncio.gather(
            *(bot.send_message(chat, "x") for chat in range(1, 32)), return_exceptions=True
        )
        assert sum(isinstance(each, TelegramRetryAfter) for each in answers) == 1


async def test_message_21_in_a_minute_to_a_group_is_rate_limited(url: str, control: Control) -> None:
    control.post("chats", id=-100, type="group", title="Team")
    relaxed(control)

    async with calling(url) as bot:
        for _ in range(20):
            await bot.send_message(-100, "x")
        with pytest.raises(TelegramRetryAfter) as refusal:
            await bot.send_message(-100, "x")
        assert 50 < refusal.value.retry_after <= 60


async def test_only_own_messages_can_be_edited(url: str, control: Control) -> None:
    other = control.post("messages", text="mine")["message"]["message_id"]
    relaxed(control)

    async with calling(url) as bot:
        sent = await bot.send_message(4711, "before")
        edited = await bot.edit_message_text("after", chat_id=4711, message_id=sent.message_id)
        assert not isinstance(edited, bool)
        assert edited.text == "after"
        for message, refusal in (
            (sent.message_id, "not modified"),
            (other, "can't be edited"),
            (99, "not found"),
        ):
            with pytest.raises(TelegramBadRequest, match=refusal):
                await bot.edit_message_text("after", chat_id=4711, message_id=message)


async def test_drafts_chat_actions_and_commands_are_accepted_and_recorded(url: str, control: Control) -> None:
    control.post("chats", id=4711)
    control.post("chats", id=-100, type="group")

    async with calling(url) as bot:
        assert await bot.send_message_draft(4711, draft_id=3, text="half a sen")
        with pytest.raises(TelegramBadRequest, match="private chats"):
            await bot.send_message_draft(-100, draft_id=3, text="x")
        assert await bot.send_chat_action(4711, "typing")
        with pytest.raises(TelegramBadRequest, match="wrong parameter action"):
            await bot.send_chat_action(4711, "sleeping")
        assert await bot.set_my_commands([BotCommand(command="new", description="Start again")])
        assert [each.command for each in await bot.get_my_commands()] == ["new"]
        with pytest.raises(TelegramBadRequest, match="BOT_COMMAND_INVALID"):
            await bot.set_my_commands([BotCommand(command="New!", description="x")])
    assert control.get("drafts") == [{"chat_id": 4711, "draft_id": 3, "text": "half a sen"}]


async def test_group_messages_are_delivered_only_when_addressed_to_the_bot(
    url: str, control: Control
) -> None:
    group = {"id": -100, "type": "supergroup", "title": "Team"}
    control.post("chats", **group)

    async with calling(url) as bot:
        await bot.send_message(-100, "hello")
    own = control.get("sent")[0]["message_id"]

    def comes(text: str, **more: int) -> bool:
        return control.post("messages", chat=group, text=text, **more)["update_id"] is not None

    assert not comes("hello all")
    assert comes("hey @Clawd_test_bot, well?")
    assert not comes("hey @clawd_test_bottle")
    assert comes("/new")
    assert not comes("/new@other_bot")
    assert comes("/new@clawd_test_bot please")
    assert comes("and this?", reply_to_message_id=own)


async def test_requested_faults_are_delivered_once(url: str, control: Control) -> None:
    control.post("chats", id=4711)
    relaxed(control)
    broken = {"ok": False, "error_code": 502, "description": "Bad Gateway"}

    async with calling(url) as bot:
        await asyncio.to_thread(control.post, "faults", match="sendMessage", status=502, body=broken)
        with pytest.raises(TelegramServerError):
            await bot.send_message(4711, "refused")
        await asyncio.to_thread(control.post, "faults", match="sendMessage", drop="before")
        with pytest.raises(TelegramNetworkError):
            await bot.send_message(4711, "lost")
        await asyncio.to_thread(control.post, "faults", match="sendMessage", drop="after")
        with pytest.raises(TelegramNetworkError):
            await bot.send_message(4711, "done, unknown")
        await bot.send_message(4711, "fine")
    assert [each["text"] for each in control.get("sent")] == ["done, unknown", "fine"]


def test_control_api_refuses_unknown_fields(control: Control) -> None:
    with pytest.raises(RuntimeError, match="unknown fields"):
        control.post("messages", txt="typo")
    with pytest.raises(RuntimeError, match="unknown fields"):
        control.post("faults", match="x", typo=1)
