"""Alerts from Alertmanager's request to the chats, with the program and strict stand-ins of the platforms."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.channels.alerts import CUSTOM_BOT, AlertsChannel, AlertsSettings, signature
from clawd_runtime.bot.channels.base import ChannelContext, DeliveryUnknown, RetryLater, Undeliverable
from clawd_runtime.bot.credentials import Credentials as Secrets
from clawd_runtime.bot.settings import load_settings
from clawd_runtime.bot.values import ConversationKey, Reply
from clawd_runtime.errors import SettingsError
from tests.bot.channels.fakes import MemoryInbox
from tests.bot.program import Program, model_server
from tests.bot.test_alerts import alert, notification
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin

APP = Credentials()
BOT_TOKEN = "110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw"
TOKEN = "a-token-of-alertmanager"
CHAT, ROOM = -100200300, "oc_ops"
SECRETS = {
    "telegram-token": BOT_TOKEN,
    "telegram-secret-token": "secret",
    "feishu-app-secret": APP.app_secret,
    "feishu-encrypt-key": APP.encrypt_key,
    "feishu-verification-token": APP.verification_token,
    "alerts-token": TOKEN,
}


class Setting:
    """A running bot that sends alerts to a group of each platform."""

    def __init__(self, program: Program, telegram: Control, feishu: Control) -> None:
        self.program, self.telegram, self.feishu = program, telegram, feishu

    def notify(self, what: Any, token: str = TOKEN) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.post(
            f"{self.program.url}/alerts", json=what, headers=headers, trust_env=False, verify=NO_TLS
        )

    def sent(self) -> tuple[list[str], list[str]]:
        telegram = [message["text"] for message in self.telegram.get("sent", chat_id=str(CHAT))]
        feishu = [str(message) for message in self.feishu.get("sent", chat_id=ROOM)]
        return telegram, feishu


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    with started(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """Yield one bot for the tests whose requests are refused and leave nothing in it."""
    with started(tmp_path_factory.mktemp("refusing")) as made:
        yield made


@contextmanager
def started(folder: Path) -> Iterator[Setting]:
    with ExitStack() as stack:
        telegram = stack.enter_context(
            Control(stack.enter_context(serving(TelegramStandin([BOT_TOKEN]).app)))
        )
        feishu = stack.enter_context(Control(stack.enter_context(serving(FeishuStandin(APP).app))))
        telegram.post("chats", id=CHAT, type="supergroup", title="ops")
        feishu.post("chats", id=ROOM, type="group")
        model = stack.enter_context(serving(model_server()))
        channels = {
            "telegram": {"api_base": telegram.base_url, "registers_webhook": False},
            "feishu": {"app_id": APP.app_id, "api_base": feishu.base_url},
            "alerts": {"language": "zh", "telegram_chat": CHAT, "feishu_chat": ROOM},
        }
        url = {"public_url": "https://bot.example.com"}
        program = stack.enter_context(Program(folder, model, channels, SECRETS, **url))
        program.start()
        program.wait_alive()
        yield Setting(program, telegram, feishu)


def test_notification_reaches_both_chats_once(setting: Setting) -> None:
    answers = [setting.notify(notification()).json() for _ in range(3)]
    assert answers == [{"new": True}, {"new": False}, {"new": False}]
    setting.program.settle()
    telegram, feishu = setting.sent()
    assert telegram == ["🔥 告警 [warning] HighLatency · bot1\nHighLatency 过高"]
    assert len(feishu) == 1
    assert "HighLatency 过高" in feishu[0]
    setting.notify(notification(alert(status="resolved"), status="resolved"))
    setting.program.settle()
    assert [len(sent) for sent in setting.sent()] == [2, 2]


def test_alert_is_sent_after_bot_was_killed(setting: Setting) -> None:
    too_fast = {"ok": False, "error_code": 429, "description": "", "parameters": {"retry_after": 1}}
    setting.telegram.post("faults", match="sendMessage", status=429, body=too_fast)
    assert setting.notify(notification()).status_code == 200
    setting.program.kill()
    setting.program.start()
    setting.program.wait_alive()
    assert setting.notify(notification()).json() == {"new": False}
    setting.program.settle()
    assert [len(sent) for sent in setting.sent()] == [1, 1]


@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Bearer other"}, {"Authorization": f"Basic {TOKEN}"}]
)
def test_request_without_valid_token_is_refused(refusing: Setting, header: dict[str, str]) -> None:
    posted = httpx.post(
        f"{refusing.program.url}/alerts", json=notification(), headers=header, trust_env=False, verify=NO_TLS
    )
    assert posted.status_code == 401
    assert refusing.sent() == ([], [])


def test_invalid_notification_gets_400(refusing: Setting) -> None:
    refused = refusing.notify({**notification(), "version": "5"})
    assert (refused.status_code, refused.json()["message"]) == (
        400,
        "not a notification of version 4: version",
    )


def test_alert_chat_requires_its_channel(tmp_path: Path) -> None:
    channels = {"alerts": {"telegram_chat": CHAT}}
    program = Program(tmp_path, "http://127.0.0.1:1", channels, {})
    with pytest.raises(SettingsError, match=r"requires channels\.telegram, which is not configured"):
        load_settings(program.folder / "bot.json")


async def custom_bot(
    answer: httpx.Response | Exception, **settings: Any
) -> tuple[list[httpx.Request], Exception | None]:
    """Return the requests sent to a custom bot, and the error that its response causes."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if isinstance(answer, Exception):
            raise answer
        return answer

    secrets = Secrets(
        {
            "alerts-token": TOKEN,
            "alerts-feishu-webhook": "https://f.example/hook/1",
            "alerts-feishu-secret": "s",
        }
    )
    reply = Reply("k", "e", ConversationKey("alerts", CUSTOM_BOT), "group", "", "down")

    async with httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http:
        context = ChannelContext(MemoryInbox(), http, secrets, None)
        channel = AlertsChannel(AlertsSettings(custom_bot=True, **settings), context, clock=lambda: 1.6e9)
        try:
            await channel.send(reply)
        except Exception as fault:
            return seen, fault
    return seen, None


async def test_alert_is_sent_through_custom_bot() -> None:
    seen, fault = await custom_bot(
        httpx.Response(200, json={"code": 0, "msg": "success"}), custom_bot_signs=True
    )
    assert fault is None
    key = b"1600000000\ns"
    sign = base64.b64encode(hmac.new(key, digestmod=hashlib.sha256).digest()).decode()
    assert signature("1600000000", "s") == sign
    assert seen[0].url == "https://f.example/hook/1"
    assert httpx.Response(200, content=seen[0].content).json() == {
        "msg_type": "text",
        "content": {"text": "down"},
        "timestamp": "1600000000",
        "sign": sign,
    }


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (httpx.Response(200, json={"StatusCode": 0}), type(None)),
        (httpx.Response(200, json={"code": 19021, "msg": "sign match fail"}), Undeliverable),
        (httpx.Response(200, json={"code": 11232}), RetryLater),
        (httpx.Response(500), DeliveryUnknown),
        (httpx.ConnectError("refused"), RetryLater),
        (httpx.ReadTimeout("late"), DeliveryUnknown),
    ],
    ids=str,
)
async def test_delivery_error_by_custom_bot_response(
    answer: httpx.Response | Exception, meaning: type
) -> None:
    assert isinstance((await custom_bot(answer))[1], meaning)
