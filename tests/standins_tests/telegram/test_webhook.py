"""The stand-in's webhook: what it refuses to set, and how it delivers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiogram import Bot
from aiogram.client.session.aiohttp import AiohttpSession
from aiogram.client.telegram import TelegramAPIServer
from aiogram.exceptions import TelegramBadRequest, TelegramConflictError, TelegramRetryAfter
from aiogram.methods import SendChatAction
from aiogram.types import FSInputFile, Update, WebhookInfo

from tests.standins.control import Control
from tests.standins.outbound import Reach
from tests.standins.serve import serving
from tests.standins.telegram.app import TelegramStandin
from tests.standins.telegram.connections import OPENS, NewConnections
from tests.standins.telegram.webhook import Rules
from tests.standins_tests.conftest import Certificate
from tests.standins_tests.receiver import Receiver

TOKEN = "1000:test-token"
SECRET = "s3cret_token-"


@asynccontextmanager
async def calling(url: str) -> AsyncIterator[Bot]:
    async with Bot(TOKEN, session=AiohttpSession(api=TelegramAPIServer.from_base(url))) as bot:
        yield bot


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def hook(receiver: Receiver, certificate: Certificate) -> Iterator[str]:
    """Return the address of the receiver, by its name."""
    with serving(receiver.app, tls=(certificate.chain, certificate.key)) as base_url:
        yield f"https://bot.test:{urlsplit(base_url).port}/hook"


@pytest.fixture
def control(hook: str) -> Iterator[Control]:
    port = urlsplit(hook).port
    assert port is not None
    rules = Rules(Reach({"bot.test": "127.0.0.1"}), frozenset({port}), reserved_addresses=True, pace=0.05)
    with serving(TelegramStandin([TOKEN], rules).app) as url, Control(url) as control:
        yield control


async def set_webhook(control: Control, hook: str, certificate: Path | None, **more: Any) -> None:
    given = FSInputFile(certificate) if certificate else None
    async with calling(control.base_url) as bot:
        await bot.set_webhook(hook, certificate=given, secret_token=SECRET, **more)


async def info(control: Control) -> WebhookInfo:
    async with calling(control.base_url) as bot:
        return await bot.get_webhook_info()


async def info_once(control: Control, holds: Callable[[WebhookInfo], Any]) -> WebhookInfo:
    async with asyncio.timeout(10.0):
        while not holds(seen := await info(control)):
            await asyncio.sleep(0.05)
    return seen


@pytest.mark.parametrize(
    ("url", "secret", "refusal"),
    [
        ("http://bot.example", "", "An HTTPS URL must be provided"),
        ("https://bot.example:8080", "", "only on ports 80, 88, 443 or 8443"),
        ("https://10.1.2.3", "", "IP address 10.1.2.3 is reserved"),
        ("https://[2606:4700::1]", "", "IPv6-only"),
        ("https://name.invalid", "", "Failed to resolve host"),
        ("https://9.9.9.9", "white space", "unallowed characters"),
        ("https://9.9.9.9", "x" * 257, "secret token is too long"),
    ],
)
async def test_invalid_webhook_url_or_secret_is_refused(url: str, secret: str, refusal: str) -> None:
    with serving(TelegramStandin([TOKEN]).app) as base_url:
        async with calling(base_url) as bot:
            with pytest.raises(TelegramBadRequest, match=refusal):
                await bot.set_webhook(url, secret_token=secret)


async def test_certificate_that_is_not_pem_is_refused(control: Control, hook: str, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_bytes(b"\x30\x82 not pem")
    with pytest.raises(TelegramBadRequest, match="not PEM"):
        await set_webhook(control, hook, tmp_path / "cert.pem")


async def test_update_is_delivered_over_tls_with_the_secret_token(
    control: Control, hook: str, receiver: Receiver, certificate: Certificate
) -> None:
    await set_webhook(control, hook, certificate.chain, max_connections=7)
    update_id = control.post("messages", text="hello")["update_id"]
    (got,) = control.eventually(lambda: receiver.received)
    assert got.headers["x-telegram-bot-api-secret-token"] == SECRET
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == hook.split("/")[2]
    update = Update.model_validate_json(got.body)
    assert (update.update_id, update.message and update.message.text) == (update_id, "hello")
    seen = await info_once(control, lambda seen: seen.pending_update_count == 0)
    assert (seen.url, seen.has_custom_certificate, seen.max_connections) == (hook, True, 7)


@pytest.mark.parametrize("answer", [b"[]", b'{"method": "nonsense"}', b'{"chat_id": 1}', b"{"])
async def test_webhook_answer_may_be_a_method_call(
    control: Control, hook: str, receiver: Receiver, certificate: Certificate, answer: bytes
) -> None:
    call = SendChatAction(chat_id=4711, action="typing")
    body = json.dumps({"method": call.__api_method__, "chat_id": call.chat_id, "action": call.action})
    receiver.answers = [(200, {}, answer), (200, {}, body.encode())]
    await set_webhook(control, hook, certificate.chain)
    for text in ("first", "second"):
        control.post("messages", text=text)
    (made,) = control.eventually(
        lambda: [made for made in control.get("calls") if made["method"] == "sendchataction"]
    )
    assert made["params"] == {"chat_id": "4711", "action": "typing"}
    assert (await info(control)).pending_update_count == 0


async def test_self_signed_receiver_is_not_trusted_without_its_certificate(
    control: Control, hook: str, receiver: Receiver
) -> None:
    await set_webhook(control, hook, None)
    control.post("messages", text="hello")
    seen = await info_once(control, lambda seen: seen.last_error_message)
    assert "CERTIFICATE_VERIFY_FAILED" in (seen.last_error_message or "")
    assert receiver.received == []
    assert (await info(control)).pending_update_count == 1


async def test_failed_updates_are_delivered_again_in_order(
    control: Control, hook: str, receiver: Receiver, certificate: Certificate
) -> None:
    receiver.answers = [(500, {}, b""), (503, {"Retry-After": "10"}, b""), (502, {}, b"")]
    await set_webhook(control, hook, certificate.chain)
    first = control.post("messages", text="one")["update_id"]
    second = control.post("messages", text="two")["update_id"]
    # It is received before the answer to it is noted.
    control.eventually(lambda: len(control.get("deliveries")) == 5)
    assert [json.loads(each.body)["update_id"] for each in receiver.received] == [first] * 4 + [second]
    waited = receiver.received[2].at - receiver.received[1].at
    assert waited >= 10 * 0.05
    errors = [each["error"] for each in control.get("deliveries")]
    assert errors[0] == "Wrong response from the webhook: 500 Internal Server Error"
    assert errors[3:] == ["", ""]


async def test_failing_chat_does_not_delay_updates_of_another_chat(
    control: Control, hook: str, receiver: Receiver, certificate: Certificate
) -> None:
    receiver.answers = [(500, {"Retry-After": "40"}, b"")]
    await set_webhook(control, hook, certificate.chain)
    stuck = control.post("messages", chat={"id": 1}, text="stuck")["update_id"]
    control.eventually(lambda: receiver.received)
    other = control.post("messages", chat={"id": 2}, text="other")["update_id"]
    control.eventually(lambda: len(receiver.received) == 3)
    assert [json.loads(each.body)["update_id"] for each in receiver.received] == [stuck, other, stuck]


async def test_connections_are_opened_at_a_limited_rate_when_every_answer_closes_one(
    control: Control, hook: str, certificate: Certificate, receiver: Receiver
) -> None:
    receiver.answers = [(200, {"connection": "close"}, b"")] * 41
    await set_webhook(control, hook, certificate.chain)
    control.post("messages", text="first", chat={"id": 1})
    control.eventually(lambda: receiver.received)
    for chat in range(2, 42):
        control.post("messages", text="one of many", chat={"id": chat})
    control.eventually(lambda: len(receiver.received) == 41)
    came = [received.at for received in receiver.received[1:]]
    assert came[-1] - came[0] > 1.4, "the last ten after three halves of a second"


@pytest.mark.parametrize(("taken", "count", "seconds"), [(True, 31, 1.5), (False, 2, 2.0)])
async def test_rate_of_new_connections_depends_on_whether_updates_succeed(
    monkeypatch: pytest.MonkeyPatch, taken: bool, count: int, seconds: float
) -> None:
    now = 1000.0

    async def sleep(pause: float) -> None:
        nonlocal now
        now += pause

    module = "tests.standins.telegram.connections"
    monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: now))
    monkeypatch.setattr(f"{module}.asyncio", SimpleNamespace(Lock=asyncio.Lock, sleep=sleep))
    connections = NewConnections()
    if taken:
        connections.taken()
    for _ in range(count):
        await connections.trace(OPENS, None)
        await connections.trace("http11.send_request_headers.started", None)
    assert now - 1000.0 == pytest.approx(seconds, abs=0.05)


async def test_webhook_ends_polling_and_polling_is_refused_while_it_is_set(
    control: Control, hook: str, certificate: Certificate, receiver: Receiver
) -> None:
    receiver.answers = [(500, {"Retry-After": "100"}, b"")]

    async with calling(control.base_url) as bot:
        poll = asyncio.create_task(bot.get_updates(timeout=20))
        await asyncio.sleep(0.3)
        await bot.set_webhook(hook, certificate=FSInputFile(certificate.chain))
        with pytest.raises(TelegramConflictError, match="terminated by setWebhook"):
            await poll
        with pytest.raises(TelegramRetryAfter):
            await bot.set_webhook(hook)
        with pytest.raises(TelegramConflictError, match="while webhook is active"):
            await bot.get_updates()
        update = (await asyncio.to_thread(control.post, "messages", text="hello"))["update_id"]
        await asyncio.to_thread(control.eventually, lambda: receiver.received)
        await bot.delete_webhook()
        assert [each.update_id for each in await bot.get_updates()] == [update]


async def test_pending_updates_can_be_dropped(control: Control) -> None:
    control.post("messages", text="old")
    async with calling(control.base_url) as bot:
        await bot.delete_webhook(drop_pending_updates=True)
    assert (await info(control)).pending_update_count == 0


async def test_forged_and_repeated_updates_are_delivered_on_request(
    control: Control, hook: str, receiver: Receiver, certificate: Certificate
) -> None:
    await set_webhook(control, hook, certificate.chain)
    answer = control.post("forge", message={"text": "let me in"}, secret_token="wrong")
    assert answer["status"] == 200
    assert receiver.received[0].headers["x-telegram-bot-api-secret-token"] == "wrong"
    given = control.post("messages", text="once")
    control.eventually(lambda: len(receiver.received) == 2)
    control.post("redeliver", update_id=given["update_id"], message=given["message"])
    assert json.loads(receiver.received[2].body) == json.loads(receiver.received[1].body)
    assert receiver.received[2].headers["x-telegram-bot-api-secret-token"] == SECRET
