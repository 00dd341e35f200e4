"""Calls of the open platform, with the strict stand-in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import httpx
import pytest

from clawd_runtime.bot.channels.base import DeliveryUnknown, RetryLater
from clawd_runtime.bot.channels.feishu.api import FeishuApi, FeishuRefusal, size_in_request
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.serve import serving

APP = Credentials()
TOKEN_PATH = "/open-apis/auth/v3/tenant_access_token/internal"
Result = TypeVar("Result")


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


def run(
    base: str,
    act: Callable[[FeishuApi], Awaitable[Result]],
    *,
    secret: str = APP.app_secret,
    clock: Clock | None = None,
) -> Result:
    async def main() -> Result:
        async with httpx.AsyncClient(trust_env=False) as http:
            return await act(FeishuApi(http, base, APP.app_id, secret, clock or Clock()))

    return asyncio.run(main())


def question(control: Control) -> str:
    message_id: str = control.post("messages", text="how?")["message"]["message_id"]
    return message_id


def tokens_asked_for(control: Control) -> int:
    return sum(call["path"] == TOKEN_PATH for call in control.get("calls"))


def test_reply_arrives_unchanged(control: Control) -> None:
    asked, text = question(control), 'ü😀 "quoted"\n\tback\\slash'
    sent = run(control.base_url, lambda api: api.reply(asked, text, "k" * 50))
    (message,) = control.get("sent", parent_id=asked)
    assert (message["message_id"], json.loads(message["body"]["content"])) == (sent, {"text": text})


def test_same_uuid_sends_once(control: Control) -> None:
    asked = question(control)

    async def act(api: FeishuApi) -> tuple[str, str]:
        return await api.reply(asked, "x", "key"), await api.reply(asked, "x", "key")

    first, second = run(control.base_url, act)
    assert first == second
    assert len(control.get("sent")) == 1


def test_token_is_reused_until_shortly_before_expiry(control: Control) -> None:
    clock = Clock()

    async def act(api: FeishuApi) -> None:
        await asyncio.gather(*(api.bot_open_id() for _ in range(5)))
        assert tokens_asked_for(control) == 1
        clock.now += 7200 - 310
        await api.bot_open_id()
        assert tokens_asked_for(control) == 1
        clock.now += 20
        await api.bot_open_id()
        assert tokens_asked_for(control) == 2

    run(control.base_url, act, clock=clock)


def test_short_lived_token_is_not_renewed_for_every_call(control: Control) -> None:
    run(control.base_url, lambda api: api.bot_open_id())
    control.post("tokens", seconds=5000)

    async def act(api: FeishuApi) -> None:
        for _ in range(3):
            await api.bot_open_id()

    run(control.base_url, act)
    assert tokens_asked_for(control) == 2


def test_early_expired_token_is_renewed_once(control: Control) -> None:
    async def act(api: FeishuApi) -> None:
        await api.bot_open_id()
        await asyncio.to_thread(control.post, "tokens", revoke=True)
        assert await asyncio.gather(*(api.bot_open_id() for _ in range(4)))
        assert tokens_asked_for(control) == 2
        body = {"code": 99991663, "msg": "Invalid access token"}
        await asyncio.to_thread(control.post, "faults", match="/info", status=400, body=body, times=2)
        with pytest.raises(RetryLater, match="refused too"):
            await api.bot_open_id()

    run(control.base_url, act)


def test_wrong_app_secret_is_retried_later(control: Control) -> None:
    with pytest.raises(RetryLater, match="10014 app secret invalid"):
        run(control.base_url, lambda api: api.reply("om_1", "x", "k"), secret="wrong")


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
def test_rate_limit_is_retried_later(
    control: Control, status: int, code: int | None, headers: dict[str, str], after: float | None
) -> None:
    asked = question(control)
    body = {"code": code, "msg": "limit"} if code else {}
    control.post("faults", match="/reply", status=status, body=body, headers=headers)
    with pytest.raises(RetryLater) as limit:
        run(control.base_url, lambda api: api.reply(asked, "x", "k"))
    assert limit.value.after == after


def test_rate_limit_per_receiver_is_retried_later(control: Control) -> None:
    asked = question(control)

    async def act(api: FeishuApi) -> list[Any]:
        every = (api.reply(asked, "x", f"k{number}") for number in range(6))
        return await asyncio.gather(*every, return_exceptions=True)

    assert sorted(type(each).__name__ for each in run(control.base_url, act)) == ["RetryLater"] + ["str"] * 5


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
def test_server_error_is_delivery_unknown(control: Control, fault: dict[str, Any]) -> None:
    asked = question(control)
    control.post("faults", match="/reply", **fault)
    with pytest.raises(DeliveryUnknown):
        run(control.base_url, lambda api: api.reply(asked, "x", "k"))


@pytest.mark.parametrize("fault", [{"drop": "before"}, {"drop": "after"}, {"status": 502}, {"status": 200}])
def test_token_failure_is_retried_later(control: Control, fault: dict[str, Any]) -> None:
    asked = question(control)
    control.post("faults", match="/internal", **fault)
    with pytest.raises(RetryLater):
        run(control.base_url, lambda api: api.reply(asked, "x", "k"))


def test_connection_failure_is_retried_later() -> None:
    with pytest.raises(RetryLater, match="ConnectError"):
        run("http://127.0.0.1:1", lambda api: api.reply("om_1", "x", "k"))


def test_refusal_has_code_and_reason(control: Control) -> None:
    asked = question(control)
    control.post("recall", message_id=asked)
    with pytest.raises(FeishuRefusal, match="230011 The message is recalled") as refusal:
        run(control.base_url, lambda api: api.reply(asked, "x", "k"))
    assert refusal.value.code == 230011


def test_errors_contain_no_secret_or_token(control: Control) -> None:
    for fault in ({"status": 502}, {"drop": "before"}, {"status": 429}):
        control.post("faults", match="/reply", **fault)
        with pytest.raises(Exception, match="Feishu") as shown:
            run(control.base_url, lambda api: api.reply(question(control), "private words", "k"))
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
def test_invalid_token_response_is_retried_later(answer: bytes) -> None:
    async def act() -> None:
        transport = httpx.MockTransport(lambda request: httpx.Response(200, content=answer))
        async with httpx.AsyncClient(transport=transport) as http:
            await FeishuApi(http, "http://feishu", APP.app_id, "secret").reply("om_1", "x", "k")

    with pytest.raises(RetryLater):
        asyncio.run(act())


def test_message_id_is_escaped_in_url() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.raw_path.decode())
        return httpx.Response(200, json={"code": 0, "tenant_access_token": "t", "expire": 7200})

    async def act() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            await FeishuApi(http, "http://feishu", APP.app_id, "secret").reply("om_1/../x?y#z", "x", "k")

    asyncio.run(act())
    assert asked[-1] == "/open-apis/im/v1/messages/om_1%2F..%2Fx%3Fy%23z/reply"
