"""Calls of the open platform, with the strict stand-in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from clawd_runtime.bot.channels.base import DeliveryUnknown, RetryLater
from clawd_runtime.bot.channels.feishu.api import FeishuApi, FeishuRefusal, size_in_request, text_message
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving

APP = Credentials()
TOKEN_PATH = "/open-apis/auth/v3/tenant_access_token/internal"


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(FeishuStandin(APP).app) as base_url:
        yield base_url


@pytest.fixture
def control(served: str) -> Iterator[Control]:
    with Control(served) as control:
        control.post("reset")
        yield control


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def calling(
    base: str, *, secret: str = APP.app_secret, clock: Clock | None = None
) -> AsyncIterator[FeishuApi]:
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        yield FeishuApi(http, base, APP.app_id, secret, clock or Clock())


@pytest.fixture
async def api(control: Control) -> AsyncIterator[FeishuApi]:
    async with calling(control.base_url) as api:
        yield api


def question(control: Control) -> str:
    message_id: str = control.post("messages", text="how?")["message"]["message_id"]
    return message_id


def tokens_asked_for(control: Control) -> int:
    return sum(call["path"] == TOKEN_PATH for call in control.get("calls"))


async def test_reply_arrives_unchanged(control: Control, api: FeishuApi) -> None:
    asked, text = question(control), 'ü😀 "quoted"\n\tback\\slash'
    sent = await api.reply(asked, text_message(text), "k" * 50)
    (message,) = control.get("sent", parent_id=asked)
    assert (message["message_id"], json.loads(message["body"]["content"])) == (sent, {"text": text})


async def test_same_uuid_sends_once(control: Control, api: FeishuApi) -> None:
    asked = question(control)
    first, second = (
        await api.reply(asked, text_message("x"), "key"),
        await api.reply(asked, text_message("x"), "key"),
    )
    assert first == second
    assert len(control.get("sent")) == 1


async def test_token_is_reused_until_shortly_before_expiry(control: Control) -> None:
    clock = Clock()
    async with calling(control.base_url, clock=clock) as api:
        await asyncio.gather(*(api.bot_open_id() for _ in range(5)))
        assert tokens_asked_for(control) == 1
        clock.now += 7200 - 310
        await api.bot_open_id()
        assert tokens_asked_for(control) == 1
        clock.now += 20
        await api.bot_open_id()
        assert tokens_asked_for(control) == 2


async def test_short_lived_token_is_not_renewed_for_every_call(control: Control, api: FeishuApi) -> None:
    async with calling(control.base_url) as first:
        await first.bot_open_id()
    control.post("tokens", seconds=5000)
    for _ in range(3):
        await api.bot_open_id()
    assert tokens_asked_for(control) == 2


async def test_early_expired_token_is_renewed_once(control: Control, api: FeishuApi) -> None:
    await api.bot_open_id()
    await asyncio.to_thread(control.post, "tokens", revoke=True)
    assert await asyncio.gather(*(api.bot_open_id() for _ in range(4)))
    assert tokens_asked_for(control) == 2
    body = {"code": 99991663, "msg": "Invalid access token"}
    await asyncio.to_thread(control.post, "faults", match="/info", status=400, body=body, times=2)
    with pytest.raises(RetryLater, match="refused too"):
        await api.bot_open_id()


async def test_wrong_app_secret_is_retried_later(control: Control) -> None:
    async with calling(control.base_url, secret="wrong") as api:
        with pytest.raises(RetryLater, match="10014 app secret invalid"):
            await api.reply("om_1", text_message("x"), "k")


@pytest.mark.parametrize(
    ("status", "code", "headers", "after"),
    [
        (400, 99991400, {"x-ogw-ratelimit-reset": "37"}, 37.0),
        (429, 99991400, {"x-ogw-ratelimit-reset": "5"}, 5.0),
        (429, None, {"Retry-After": "9"}, 9.0),
        (429, 99991400, {"x-ogw-ratelimit-reset": "0"}, 1.0),
        (400, 99991403, {}, None),
        (400, 230020, {}, None),
        (400, 11232, {}, None),
        (400, 230006, {"Retry-After": "soon"}, None),
    ],
)
async def test_rate_limit_is_retried_later(
    control: Control,
    api: FeishuApi,
    status: int,
    code: int | None,
    headers: dict[str, str],
    after: float | None,
) -> None:
    asked = question(control)
    body = {"code": code, "msg": "limit"} if code else {}
    control.post("faults", match="/reply", status=status, body=body, headers=headers)
    with pytest.raises(RetryLater) as limit:
        await api.reply(asked, text_message("x"), "k")
    assert limit.value.after == after


async def test_rate_limit_per_receiver_is_retried_later(control: Control, api: FeishuApi) -> None:
    asked = question(control)
    every = (api.reply(asked, text_message("x"), f"k{number}") for number in range(6))
    results = await asyncio.gather(*every, return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["RateLimited"] + ["str"] * 5


@pytest.mark.parametrize(
    "fault",
    [
        {"drop": "before"},
        {"drop": "after"},
        {"status": 502},
        {"status": 500, "body": {"code": 5000, "msg": "internal error"}},
        {"status": 200, "body": {}},
        {"status": 400, "body": {"code": 230049, "msg": "The message is being sent."}},
    ],
)
async def test_server_error_is_delivery_unknown(
    control: Control, api: FeishuApi, fault: dict[str, Any]
) -> None:
    asked = question(control)
    control.post("faults", match="/reply", **fault)
    with pytest.raises(DeliveryUnknown):
        await api.reply(asked, text_message("x"), "k")


@pytest.mark.parametrize("fault", [{"drop": "before"}, {"drop": "after"}, {"status": 502}, {"status": 200}])
async def test_token_failure_is_retried_later(
    control: Control, api: FeishuApi, fault: dict[str, Any]
) -> None:
    asked = question(control)
    control.post("faults", match="/internal", **fault)
    with pytest.raises(RetryLater):
        await api.reply(asked, text_message("x"), "k")


async def test_connection_failure_is_retried_later() -> None:
    async with calling("http://127.0.0.1:1") as api:
        with pytest.raises(RetryLater, match="ConnectError"):
            await api.reply("om_1", text_message("x"), "k")


async def test_refusal_has_code_and_reason(control: Control, api: FeishuApi) -> None:
    asked = question(control)
    control.post("recall", message_id=asked)
    with pytest.raises(FeishuRefusal, match="230011 The message is recalled") as refusal:
        await api.reply(asked, text_message("x"), "k")
    assert refusal.value.code == 230011


async def test_errors_contain_no_secret_or_token(control: Control, api: FeishuApi) -> None:
    for fault in ({"status": 502}, {"drop": "before"}, {"status": 429}):
        control.post("faults", match="/reply", **fault)
        with pytest.raises(Exception, match="Feishu") as shown:
            await api.reply(question(control), text_message("private words"), "k")
        said = repr(shown.value)
        assert APP.app_secret not in said
        assert "t-" not in said
        assert "private words" not in said


@pytest.mark.parametrize("text", ["plain", 'a"b', "ü😀", "\n\\\t\x01", "\ud800"])
def test_size_in_request_matches_request_body(text: str) -> None:
    def body(text: str) -> str:
        return json.dumps({"content": json.dumps({"text": text}, ensure_ascii=False)}, ensure_ascii=False)

    grown = len(body(text).encode("utf-8", "replace")) - len(body("").encode())
    assert size_in_request(text) == grown


@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 50_000,
        b"9" * 5000,
        b'{"code": 0, "tenant_access_token": {}, "expire": 7200}',
        b'{"code": 0, "tenant_access_token": "t", "expire": NaN}',
        b'{"code": 0, "tenant_access_token": "t", "expire": 1e999}',
        b'{"code": 0, "tenant_access_token": "t\\n", "expire": 7200}',
        b'{"code": true}',
    ],
)
async def test_invalid_token_response_is_retried_later(answer: bytes) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=answer))
    async with httpx.AsyncClient(transport=transport) as http:
        api = FeishuApi(http, "http://feishu", APP.app_id, "secret")
        with pytest.raises(RetryLater):
            await api.reply("om_1", text_message("x"), "k")


async def test_message_id_is_escaped_in_url() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return httpx.Response(200, json={"code": 0, "tenant_access_token": "t", "expire": 7200})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        await FeishuApi(http, "http://feishu", APP.app_id, "secret").reply(
            "om_1/../x?y#z", text_message("x"), "k"
        )
    assert asked[-1] == "/open-apis/im/v1/messages/om_1%2F..%2Fx%3Fy%23z/reply"
