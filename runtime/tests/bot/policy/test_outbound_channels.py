"""No credential leaves on any path: each channel's requests, as its platform receives them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.channels.alerts import AlertsChannel, AlertsSettings
from clawd_runtime.bot.channels.base import ChannelContext
from clawd_runtime.bot.channels.feishu.api import FeishuApi, Outgoing
from clawd_runtime.bot.channels.feishu.growing_cards import CardRef, GrowingCards
from clawd_runtime.bot.channels.telegram.api import TelegramApi
from clawd_runtime.bot.credentials import Credentials
from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.policy.outbound import OutboundCheck
from clawd_runtime.bot.values import ConversationKey, Piece, Reply
from clawd_runtime.errors import ChannelError

SECRET = "q8Zx3-Vb7nM2_kLp9Rt5Ws"
HOOK = "https://open.example.org/bot/hook-4f9a8b7c6d5e"
CREDENTIALS = {"database-password": SECRET, "alerts-feishu-webhook": HOOK, "alerts-token": "t" * 32}
HIDDEN = "＊" * len(SECRET)


class Platform:
    """Accepts every request of any platform, and keeps its body."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content or b"{}")
        if request.url.path.endswith("/tenant_access_token/internal"):
            return httpx.Response(200, json={"code": 0, "tenant_access_token": "t-1", "expire": 7200})
        self.bodies.append(body)
        return httpx.Response(200, json={"ok": True, "result": {}, "code": 0, "data": {"message_id": "om_1"}})


@pytest.fixture
def outbound() -> OutboundCheck:
    return OutboundCheck(CurrentPolicy(None, CREDENTIALS))


@pytest.mark.parametrize(
    "method", ["sendMessage", "sendMessageDraft", "editMessageText", "answerCallbackQuery"]
)
async def test_telegram_gets_no_credential_in_any_message(outbound: OutboundCheck, method: str) -> None:
    platform = Platform()
    api = TelegramApi(platform.http, "https://api.example.org", "1:x", outbound)
    entities = [{"type": "text_link", "offset": 0, "length": 2, "url": f"https://example.org/{SECRET}"}]
    await api.call(method, {"chat_id": 1, "text": f"𝒳 {SECRET}", "entities": entities})
    assert platform.bodies == [
        {
            "chat_id": 1,
            "text": f"𝒳 {HIDDEN}",
            "entities": [{**entities[0], "url": f"https://example.org/{HIDDEN}"}],
        }
    ]


async def test_telegram_still_gets_the_secret_of_its_own_webhook(outbound: OutboundCheck) -> None:
    platform = Platform()
    api = TelegramApi(platform.http, "https://api.example.org", "1:x", outbound)
    await api.call("setWebhook", {"url": "https://bot.example.org", "secret_token": SECRET})
    assert platform.bodies[0]["secret_token"] == SECRET


async def test_feishu_gets_no_credential_in_texts_and_cards(outbound: OutboundCheck) -> None:
    platform = Platform()
    api = FeishuApi(platform.http, "https://open.example.org", "cli_1", "app-secret", outbound=outbound)
    card = {"elements": [{"tag": "markdown", "content": f"see `{SECRET}`"}]}
    await api.reply("om_0", Outgoing("interactive", json.dumps(card)), "u1")
    await api.send_to_chat("oc_1", Outgoing("text", json.dumps({"text": SECRET})), "u2")
    first, second = platform.bodies
    assert json.loads(first["content"]) == {"elements": [{"tag": "markdown", "content": f"see `{HIDDEN}`"}]}
    assert json.loads(second["content"]) == {"text": HIDDEN}
    assert (first["uuid"], second["receive_id"]) == ("u1", "oc_1")


async def test_alerts_carry_no_credential(outbound: OutboundCheck) -> None:
    platform = Platform()
    context = ChannelContext(
        None,  # type: ignore[arg-type]
        platform.http,
        Credentials(CREDENTIALS),
        None,
        outbound=outbound,
    )
    channel = AlertsChannel(AlertsSettings(custom_bot=True), context)
    conversation = ConversationKey("alerts", "feishu-custom-bot")
    await channel.send(Reply("k", "e", conversation, "group", "", f"🔥 Alert: {SECRET} at {HOOK}"))
    [body] = platform.bodies
    assert body["content"]["text"].startswith(f"🔥 Alert: {HIDDEN} at ")
    assert HOOK not in json.dumps(body)


WORDS = (
    *("text", "interactive", "card", "markdown", "answer", "content", "private", "uuid", "64", "7-64-1"),
    *("msg_type", "card_id", "json", "card_json", "forbidden", "false", "2.0", "om_1"),
)


@pytest.fixture
def everyday_words(tmp_path: Path) -> OutboundCheck:
    """Return a check of a policy with words that are also names and constants of the platforms."""
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"words": [{"name": "names", "words": WORDS}]}))
    return OutboundCheck(CurrentPolicy(path, {}))


async def test_words_of_a_policy_leave_the_fields_of_feishu_as_they_are(
    everyday_words: OutboundCheck,
) -> None:
    platform = Platform()
    api = FeishuApi(platform.http, "https://open.example.org", "cli_1", "app-secret", outbound=everyday_words)
    await api.reply("om_0", Outgoing("text", json.dumps({"text": "a forbidden text"})), "uuid-64")
    await GrowingCards(api).show(CardRef("7-64-1"), 1, Piece('{"forbidden": 64}'))
    await api.reply("om_0", CardRef("7-64-1").content, "64")
    with pytest.raises(ChannelError):
        await GrowingCards(api).create(Piece("a forbidden card"))  # this platform creates no card
    reply, shown, card, created = platform.bodies
    assert reply == {
        "msg_type": "text",
        "content": json.dumps({"text": "a ＊＊＊＊＊＊＊＊＊ ＊＊＊＊"}, ensure_ascii=False),
        "uuid": "uuid-64",
    }
    assert "forbidden" not in shown["content"]
    assert "64" not in shown["content"]
    assert card == {
        "msg_type": "interactive",
        "content": '{"type":"card","data":{"card_id":"7-64-1"}}',
        "uuid": "64",
    }
    assert created["type"] == "card_json"
    [element] = json.loads(created["data"])["body"]["elements"]
    assert element == {"tag": "markdown", "element_id": "answer", "content": "a ＊＊＊＊＊＊＊＊＊ ＊＊＊＊"}


async def test_words_of_a_policy_leave_the_fields_of_telegram_as_they_are(
    everyday_words: OutboundCheck,
) -> None:
    platform = Platform()
    api = TelegramApi(platform.http, "https://api.example.org", "1:x", everyday_words)
    entities = [{"type": "text", "offset": 0, "length": 2}]
    await api.call("sendMessage", {"chat_id": "64", "text": '{"forbidden": 64}', "entities": entities})
    assert platform.bodies == [
        {"chat_id": "64", "text": '{"＊＊＊＊＊＊＊＊＊": ＊＊}', "entities": entities}
    ]


def test_keys_of_json_in_a_reply_are_masked(everyday_words: OutboundCheck) -> None:
    reply = Reply(
        *("k", "e", ConversationKey("telegram", "1"), "private", "", '{"forbidden": 1}'),
        formatting='[{"type":"text","offset":0,"length":1}]',
    )
    checked = everyday_words.reply(reply)
    assert checked.text == '{"＊＊＊＊＊＊＊＊＊": 1}'
    assert checked.formatting == reply.formatting
