"""Entities that the stand-in accepts and refuses, as aiogram sends them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import TelegramBadRequest
from aiogram.types import Message, MessageEntity

from tests.standins.control import Control
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin

TOKEN = "1000:test-token"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(TelegramStandin([TOKEN]).app) as base_url, Control(base_url) as control:
        control.post("chats", id=7)
        control.post("limits", chat=[1000, 1.0], all=[1000, 1.0])
        yield base_url


async def sent(url: str, text: str, *entities: tuple[str, int, int], address: str | None = None) -> Message:
    given = [MessageEntity(type=kind, offset=at, length=size, url=address) for kind, at, size in entities]
    async with Bot(TOKEN, session=AiohttpSession(api=TelegramAPIServer.from_base(url))) as bot:
        return await bot.send_message(7, text, entities=given)


async def test_entities_are_counted_in_utf16_units(url: str) -> None:
    message = await sent(url, "😀 bold code", ("bold", 3, 4), ("code", 8, 4))
    assert message.entities is not None
    assert message.text is not None
    assert [entity.extract_from(message.text) for entity in message.entities] == ["bold", "code"]


async def test_entities_move_with_white_space_in_front(url: str) -> None:
    message = await sent(url, " \nbold ", ("bold", 2, 5))
    assert message.text == "bold"
    assert [(e.offset, e.length) for e in message.entities or ()] == [(0, 4)]


async def test_indentation_of_code_stays(url: str) -> None:
    assert (await sent(url, "  code", ("pre", 0, 6))).text == "  code"


@pytest.mark.parametrize(
    ("entities", "refusal"),
    [
        ([("bold", 0, 9)], "ends after the end of the text at UTF-16 offset 9"),
        ([("bold", 9, 1)], "begins after the end of the text at UTF-16 offset 9"),
        ([("bold", 1, 2)], "begins in a middle of a UTF-16 symbol"),
        ([("bold", 0, 1)], "ends in a middle of a UTF-16 symbol"),
        ([("bold", 0, -1)], "incorrect length"),
        ([("bold", 2, 1)], "shows nothing"),
        ([("sparkle", 0, 2)], "Unsupported type specified"),
        ([("bold", 0, 4), ("italic", 3, 2)], "overlap"),
        ([("italic", 3, 2), ("bold", 0, 2)], "not in order"),
        ([("bold", 0, 6), ("code", 3, 2)], "bold cannot contain code"),
        ([("code", 0, 6), ("bold", 3, 2)], "code cannot contain bold"),
        ([("blockquote", 0, 6), ("blockquote", 3, 2)], "blockquote cannot contain blockquote"),
        ([("bold", 3, 1)] * 101, "bold cannot contain bold"),
    ],
)
async def test_wrong_entities_are_refused(
    url: str, entities: list[tuple[str, int, int]], refusal: str
) -> None:
    with pytest.raises(TelegramBadRequest, match=refusal):
        await sent(url, "😀 abcd", *entities)


async def test_more_than_100_entities_are_refused(url: str) -> None:
    with pytest.raises(TelegramBadRequest, match="101 entities"):
        await sent(url, "ab" * 101, *(("bold", 2 * number, 1) for number in range(101)))


@pytest.mark.parametrize(
    "address", ["localhost", "http://localhost/", "tg://user?id=1", "http://[", "http://a.b:0/"]
)
async def test_wrong_addresses_are_refused(url: str, address: str) -> None:
    with pytest.raises(TelegramBadRequest, match=r"entity URL .* is invalid"):
        await sent(url, "link", ("text_link", 0, 4), address=address)
    assert await sent(url, "link", ("text_link", 0, 4), address="https://example.com:8443/a?b=c")
