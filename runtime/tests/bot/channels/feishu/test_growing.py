"""Growing answers in cards of Feishu, with the strict stand-in."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.channels.base import ChannelContext, DeliveryUnknown, RetryLater, StreamGone
from clawd_runtime.bot.channels.feishu.channel import FeishuChannel, FeishuSettings
from clawd_runtime.bot.channels.feishu.delivery import COMPLETE_ATTEMPTS
from clawd_runtime.bot.credentials import Credentials as Secrets
from clawd_runtime.bot.values import ConversationKey, Inbound, Piece, Reply, Shown, reply_key
from clawd_runtime.errors import ChannelError
from tests.bot.channels.fakes import MemoryInbox
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving

APP = Credentials()
SECRETS = Secrets(
    {
        "feishu-app-secret": APP.app_secret,
        "feishu-encrypt-key": APP.encrypt_key,
        "feishu-verification-token": APP.verification_token,
    }
)


@pytest.fixture
def control() -> Iterator[Control]:
    with serving(FeishuStandin(APP).app) as url, Control(url) as control:
        yield control


@asynccontextmanager
async def feishu(control: Control) -> AsyncIterator[FeishuChannel]:
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        settings = FeishuSettings(app_id=APP.app_id, api_base=control.base_url)
        yield FeishuChannel(settings, ChannelContext(MemoryInbox(), http, SECRETS, None))


def question(control: Control) -> Inbound:
    message = control.post("messages", text="how?", user="ou_ada")["message"]
    place = ConversationKey("feishu", message["chat_id"])
    id = message["message_id"]
    return Inbound("e1", id, place, "private", "ou_ada", "how?", True, id, time.time())


def reply(asked: Inbound, text: str, shown: Shown | None, **more: Any) -> Reply:
    key = reply_key("feishu", asked.event_id, 0)
    return Reply(
        key, asked.event_id, asked.conversation, "private", asked.reply_to, text, shown=shown, **more
    )


async def opened(channel: FeishuChannel, asked: Inbound, text: str = "one") -> str:
    ref = await channel.prepare(asked, Piece(text))
    return await channel.open(asked, Shown(ref, 1), Piece(text))


async def test_card_grows_and_is_completed_in_place(control: Control) -> None:
    asked = question(control)
    async with feishu(control) as channel:
        ref = await channel.prepare(asked, Piece("**one**"))
        assert control.get("sent") == []
        ref = await channel.open(asked, Shown(ref, 1), Piece("**one**"))
        await channel.update(asked, Shown(ref, 2), Piece("**one** two"))
        (card,) = control.get("cards")
        assert (card["text"], card["streaming"]) == ("**one** two", True)
        (content,) = channel.formatted("**one** two\n\n- three")
        await channel.send(reply(asked, content.text, Shown(ref, 3), formatting=content.formatting))
    (card,) = control.get("cards")
    assert (card["text"], card["streaming"]) == ("**one** two\n\n- three", False)
    (sent,) = control.get("sent", parent_id=asked.reply_to)
    assert sent["message_id"] == card["message_id"]


@pytest.mark.parametrize("text", ["plain", "# no heading\n* no list <at user_id='all'>", "1. no\n| a | b |"])
async def test_plain_answer_is_shown_literally_in_its_card(control: Control, text: str) -> None:
    asked = question(control)
    async with feishu(control) as channel:
        ref = await opened(channel, asked)
        await channel.send(reply(asked, text, Shown(ref, 3)))
    (card,) = control.get("cards")
    assert not card["streaming"]
    assert "<at" not in card["text"]
    assert not card["text"].lstrip().startswith(("# ", "* ", "1. "))


async def test_opening_again_shows_one_card(control: Control) -> None:
    asked = question(control)
    async with feishu(control) as channel:
        ref = await channel.prepare(asked, Piece("one"))
        refs = {await channel.open(asked, Shown(ref, 1), Piece("one")) for _ in range(2)}
        # Interrupted before the reference of the message was stored:
        await channel.send(reply(asked, "one two", Shown(ref, 3)))
    assert len(refs) == 1
    assert len(control.get("sent")) == 1
    assert [card["text"] for card in control.get("cards")] == ["one two"]


async def test_growing_cards_are_disabled_without_permission(control: Control) -> None:
    control.post("app", may_make_cards=False)
    asked = question(control)
    async with feishu(control) as channel:
        with pytest.raises(ChannelError) as refusal:
            await channel.prepare(asked, Piece("one"))
        assert not isinstance(refusal.value, RetryLater)
        assert channel.streaming(asked) is None


TOO_MANY_TABLES = {
    "code": 230099,
    "msg": "Failed to create card content, ext=ErrCode: 11310; ErrMsg: card table number over limit; ",
}


@pytest.mark.parametrize(
    "body",
    [
        TOO_MANY_TABLES,
        {"code": 200740, "msg": "The card entity does not exist"},
        {"code": 200750, "msg": "The card entity has expired"},
        {"code": 99991672, "msg": "Access denied. One of the following scopes is required"},
    ],
)
async def test_reply_to_refused_card_is_sent_as_message_and_no_card_is_left(
    control: Control, body: dict[str, Any]
) -> None:
    asked = question(control)
    async with feishu(control) as channel:
        ref = await opened(channel, asked)
        (card,) = control.get("cards")
        control.post("faults", match=f"/cards/{card['card_id']}", status=400, body=body)
        with pytest.raises(StreamGone):
            await channel.send(reply(asked, "one two", Shown(ref, 3)))
        await channel.send(reply(asked, "one two", None))
    left = [each for each in control.get("sent") if not each["deleted"]]
    assert [json.loads(each["body"]["content"]) for each in left] == [{"text": "one two"}]


async def test_answer_too_large_for_a_card_is_sent_as_text(control: Control) -> None:
    asked = question(control)
    async with feishu(control) as channel:
        ref = await opened(channel, asked)
        with pytest.raises(StreamGone):
            await channel.send(reply(asked, "x" * 40_000, Shown(ref, 3)))
    assert [each["deleted"] for each in control.get("sent")] == [True]


async def test_card_that_cannot_be_removed_at_least_stops_spinning(control: Control) -> None:
    asked = question(control)
    async with feishu(control) as channel:
        ref = await opened(channel, asked)
        refusal = {"code": 230026, "msg": "No permission to recall this message."}
        control.post("faults", match=ref.split()[1], status=400, body=refusal)
        with pytest.raises(StreamGone):
            await channel.send(reply(asked, "x" * 40_000, Shown(ref, 3)))
    assert [card["streaming"] for card in control.get("cards")] == [False]


async def test_card_is_removed_after_many_attempts_with_unknown_outcome(control: Control) -> None:
    asked = question(control)
    async with feishu(control) as channel:
        ref = await opened(channel, asked)
        card = ref.split()[0]
        control.post("faults", match=f"/cards/{card}", status=500, times=COMPLETE_ATTEMPTS)
        for attempt in range(1, COMPLETE_ATTEMPTS):
            with pytest.raises(DeliveryUnknown):
                await channel.send(reply(asked, "one two", Shown(ref, 8 * attempt), attempt=attempt))
        last = reply(asked, "one two", Shown(ref, 8 * COMPLETE_ATTEMPTS), attempt=COMPLETE_ATTEMPTS)
        control.post("faults", match=ref.split()[1], drop="after")
        with pytest.raises(DeliveryUnknown):
            await channel.send(last)
        with pytest.raises(StreamGone):
            await channel.send(last)
    assert [each["deleted"] for each in control.get("sent")] == [True]


async def test_delayed_piece_cannot_replace_the_reply(control: Control) -> None:
    asked = question(control)
    async with feishu(control) as channel:
        ref = await opened(channel, asked)
        await channel.send(reply(asked, "one two", Shown(ref, 3)))
        with pytest.raises(ChannelError):
            await channel.update(asked, Shown(ref, 2), Piece("one"))
    assert [card["text"] for card in control.get("cards")] == ["one two"]


@pytest.mark.parametrize(
    "text",
    [
        "x" * 100_000,
        "| a |\n|---|\n" + "| <b> |\n" * 3000,
        "\n\n".join(["| a |\n|---|\n| 1 |"] * 9),
        "```python\nprint(1)",
        '<at user_id="all">',
        "&<>*_`" * 20_000,
    ],
)
async def test_any_piece_is_accepted_by_the_platform(control: Control, text: str) -> None:
    asked = question(control)
    async with feishu(control) as channel:
        ref = await opened(channel, asked, text)
        await channel.update(asked, Shown(ref, 2), Piece(f"{text} and more"))
        await channel.update(asked, Shown(ref, 3), Piece(text, is_notice=True))
    (card,) = control.get("cards")
    assert len(card["shown"]) >= 3
