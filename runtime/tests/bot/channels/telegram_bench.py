"""The Telegram channel with the stand-in of the Bot API, for the tests of its parts."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import aiogram.methods
import httpx

from clawd_runtime.bot.channels.base import (
    ChannelContext,
)
from clawd_runtime.bot.channels.telegram.channel import TelegramChannel, TelegramSettings
from clawd_runtime.bot.channels.telegram.updates import TelegramIdentity
from clawd_runtime.bot.credentials import Credentials
from tests.bot.channels.fakes import MemoryInbox
from tests.standins.control import Control
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin
from tests.standins.telegram.webhook import Rules

TOKEN = "1000:abcdefghijklmnopqrstuvwxyz"
SECRET = "a-secret_token"
CHAT = 4711
METHODS: dict[str, type[aiogram.methods.TelegramMethod[Any]]] = {
    "sendmessage": aiogram.methods.SendMessage,
    "sendchataction": aiogram.methods.SendChatAction,
    "editmessagetext": aiogram.methods.EditMessageText,
    "sendmessagedraft": aiogram.methods.SendMessageDraft,
    "setwebhook": aiogram.methods.SetWebhook,
    "deletewebhook": aiogram.methods.DeleteWebhook,
    "getwebhookinfo": aiogram.methods.GetWebhookInfo,
    "setmycommands": aiogram.methods.SetMyCommands,
    "getme": aiogram.methods.GetMe,
}


ME = TelegramIdentity(1000, "Clawd_Bot")


@contextmanager
def bot_api() -> Iterator[Control]:
    """Yield the stand-in; afterwards check that Telegram would accept all calls of the channel."""
    rules = Rules(reserved_addresses=True, extra_ports=frozenset({9}))
    with serving(TelegramStandin([TOKEN], rules).app) as url, Control(url) as control:
        control.post("chats", id=CHAT)
        yield control
        for call in control.get("calls"):
            # The types of another library validate the parameters.
            given = {name: _value(value) for name, value in call["params"].items()}
            METHODS[call["method"]].model_validate(given)


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


@asynccontextmanager
async def channel(
    base: str,
    inbox: MemoryInbox | None = None,
    *,
    transport: httpx.AsyncBaseTransport | None = None,
    **settings: Any,
) -> AsyncIterator[TelegramChannel]:
    credentials = Credentials({"telegram-token": TOKEN, "telegram-secret-token": SECRET})
    async with httpx.AsyncClient(transport=transport, trust_env=False) as http:
        context = ChannelContext(inbox or MemoryInbox(), http, credentials, "https://127.0.0.1:9")
        yield TelegramChannel(TelegramSettings(api_base=base, **settings), context)


async def until(check: Callable[[], Any], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not check():
            await asyncio.sleep(0.01)
