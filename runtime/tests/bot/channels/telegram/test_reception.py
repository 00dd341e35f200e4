"""Reception by long polling and webhook, with the stand-in of the Bot API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiogram.methods
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette

from clawd_runtime.bot.channels.telegram import reception
from clawd_runtime.bot.channels.telegram.updates import TelegramIdentity
from clawd_runtime.bot.values import Inbound
from clawd_runtime.errors import StoreError, StoreRefused
from tests.bot.channels.fakes import MemoryInbox
from tests.bot.channels.telegram_bench import CHAT, ME, SECRET, TOKEN, bot_api, channel, until
from tests.standins.control import Control
from tests.standins.plain_http import NO_TLS


@pytest.fixture
def standin() -> Iterator[Control]:
    with bot_api() as control:
        yield control


async def _polled(base: str, inbox: MemoryInbox, check: Callable[[], Any]) -> None:
    async with channel(base, inbox, mode="polling") as telegram:
        assert telegram.routes() == ()
        task = asyncio.create_task(telegram.run())
        try:
            await until(check)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_polling_stores_and_confirms_updates(standin: Control) -> None:
    inbox = MemoryInbox()
    for number in range(3):
        standin.post("messages", text=f"message {number}")
    await _polled(standin.base_url, inbox, lambda: len(inbox.stored) == 3)
    assert [inbound.text for inbound in inbox.stored] == ["message 0", "message 1", "message 2"]
    last = int(inbox.stored[-1].event_id.partition(":")[2])
    assert inbox.states == {("telegram", "offset:1000"): str(last + 1)}
    standin.post("messages", text="message 3")
    await _polled(standin.base_url, inbox, lambda: len(inbox.stored) == 4)
    assert [inbound.text for inbound in inbox.stored[3:]] == ["message 3"]


async def test_only_leading_bot_polls_from_shared_offset(
    standin: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "FOLLOW_SECONDS", 0.02)
    inbox = MemoryInbox()
    inbox.leading = False

    standin.post("messages", text="message")
    async with channel(standin.base_url, inbox, mode="polling") as telegram:
        task = asyncio.create_task(telegram.run())
        await until(lambda: telegram._reception.identity is not None)
        await asyncio.sleep(0.1)
        assert not [call for call in standin.get("calls") if call["method"] == "getupdates"]
        inbox.leading = True
        await until(lambda: len(inbox.stored) == 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_polling_removes_a_webhook_and_survives_conflicts(
    standin: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "backoff", lambda failures: 0.01)
    inbox = MemoryInbox()
    with httpx.Client(trust_env=False, verify=NO_TLS) as other:
        set_webhook = f"{standin.base_url}/bot{TOKEN}/setWebhook?url=https://127.0.0.1:9/"
        assert other.get(set_webhook).status_code == 200
    conflict = {"ok": False, "error_code": 409, "description": "Conflict"}
    standin.post("faults", match="getUpdates", status=409, body=conflict, times=3)
    standin.post("faults", match="getUpdates", drop="before")
    standin.post("faults", match="getUpdates", status=502)
    standin.post("faults", match="getUpdates", status=200, body={"ok": True, "result": {"not": "a list"}})
    standin.post("messages", text="still here")
    await _polled(standin.base_url, inbox, lambda: inbox.stored)
    assert inbox.stored[0].text == "still here"
    assert sum(call["method"] == "deletewebhook" for call in standin.get("calls")) == 4


async def test_polling_does_not_confirm_unstored_updates(standin: Control) -> None:
    inbox = MemoryInbox()
    inbox.failure = RuntimeError("disk full")
    standin.post("messages", text="precious")
    with pytest.raises(RuntimeError):
        await _run_once(standin.base_url, inbox)
    assert inbox.states == {}
    inbox.failure = None
    await _polled(standin.base_url, inbox, lambda: inbox.stored)


async def test_polling_resumes_when_disk_has_space(standin: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "backoff", lambda failures: 0.01)
    failures = iter(range(3))

    class SoonWithRoom(MemoryInbox):
        async def store(self, inbound: Inbound) -> bool:
            if next(failures, None) is not None:
                raise StoreError("the disk is full")
            return await super().store(inbound)

    inbox = SoonWithRoom()
    standin.post("messages", text="precious")
    await _polled(standin.base_url, inbox, lambda: inbox.stored)
    assert [inbound.text for inbound in inbox.stored] == ["precious"]


async def _run_once(base: str, inbox: MemoryInbox) -> None:
    async with channel(base, inbox, mode="polling") as telegram:
        await asyncio.wait_for(telegram.run(), 10.0)


async def test_unreadable_update_does_not_block_polling(standin: Control) -> None:
    inbox = MemoryInbox()
    standin.post("updates", type="message", payload={"odd": True}, chat_id=CHAT)
    standin.post("messages", text="after it")
    await _polled(standin.base_url, inbox, lambda: inbox.stored)
    assert [inbound.text for inbound in inbox.stored] == ["after it"]


UPDATE: dict[str, Any] = {
    "update_id": 870,
    "message": {
        "message_id": 55,
        "date": 1_700_000_000,
        "chat": {"id": CHAT, "type": "private", "first_name": "Ada"},
        "from": {"id": CHAT, "is_bot": False, "first_name": "Ada"},
        "text": "hello",
    },
}


async def _post(
    inbox: MemoryInbox,
    body: bytes,
    headers: dict[str, str],
    me: TelegramIdentity | None = ME,
) -> httpx.Response:
    async with channel("http://api", inbox) as telegram:
        telegram._reception.identity = me
        app = httpx.ASGITransport(Starlette(routes=list(telegram.routes())))
        async with httpx.AsyncClient(transport=app, base_url="http://bot") as client:
            return await client.post("/telegram/webhook", content=body, headers=headers)


async def post(
    inbox: MemoryInbox, body: bytes, *, secret: str | None = SECRET, **more: Any
) -> httpx.Response:
    headers = {} if secret is None else {"X-Telegram-Bot-Api-Secret-Token": secret}
    return await _post(inbox, body, headers, **more)


async def test_webhook_update_is_stored() -> None:
    inbox = MemoryInbox()
    assert (await post(inbox, json.dumps(UPDATE).encode())).status_code == 200
    assert [inbound.text for inbound in inbox.stored] == ["hello"]


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + "x", SECRET.upper()])
async def test_wrong_webhook_secret_is_refused(secret: str | None) -> None:
    inbox = MemoryInbox()
    response = await post(inbox, json.dumps(UPDATE).encode(), secret=secret)
    assert (response.status_code, response.content) == (401, b"")
    assert inbox.stored == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{", b"[]", b'"x"', b"{}", b"\xff", b"null", b"NaN", b'{"update_id": null}'),
        *(b'{"update_id": true}', b'{"update_id": 1e400}', b'{"update_id": -1}', b'{"update_id": "1"}'),
        b'{"update_id": %s}' % (b"9" * 400),
        b'{"update_id": %s}' % (b"9" * 5000),
        b"[" * 100_000,
        b'{"update_id": 1, "message": ' + b'{"reply_to_message": ' * 20_000,
    ],
)
async def test_unreadable_webhook_body_is_acknowledged(body: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Telegram repeats an update for a day if the response has another status."""
    inbox = MemoryInbox()
    assert (await post(inbox, body)).status_code == 200
    assert inbox.stored == []
    assert len(caplog.records) == 1


STRANGE_FIELDS: tuple[dict[str, Any], ...] = (
    {"from": {"id": 7, "is_bot": False, "language_code": {}}},
    {"from": {"id": 10**400}},
    {"from": {"id": 2**63}},
    {"from": {"id": True}},
    {"from": {"id": 7, "is_bot": "no"}},
    {"from": []},
    {"chat": {"id": 1.5, "type": "private"}},
    {"chat": {"id": 7, "type": 1}},
    {"message_id": "55"},
    {"message_id": 10**400},
    {"text": ["hello"]},
    {"text": "x" * 300_000},
    {"entities": [{"type": "mention", "offset": 10**400, "length": 1}]},
    {"entities": [{"type": "mention", "offset": -1, "length": 1}]},
    {"entities": [1] * 100_000},
    {"entities": {"type": "mention"}},
    {"reply_to_message": "55"},
    {"quote": {"text": {}}},
    {"forward_origin": 7},
    {"is_topic_message": 1},
)


@pytest.mark.parametrize(
    "update",
    [
        {"update_id": 872, "message": {"message_id": 1, "chat": {"id": CHAT}}},
        {"update_id": 873, "message": UPDATE["message"] | {"entities": [{"type": "mention"}]}},
        {"update_id": 874, "message": "of a new kind"},
        *({"update_id": 875, "message": UPDATE["message"] | strange} for strange in STRANGE_FIELDS),
    ],
)
async def test_unreadable_webhook_update_is_acknowledged(
    update: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Telegram would repeat it for a day, and later updates would wait."""
    inbox = MemoryInbox()
    assert (await post(inbox, json.dumps(update).encode())).status_code == 200
    assert inbox.stored == []
    assert str(update["update_id"]) in caplog.text


async def test_other_update_kinds_are_acknowledged() -> None:
    inbox = MemoryInbox()
    other = {"update_id": 871, "edited_channel_post": UPDATE["message"]}
    assert (await post(inbox, json.dumps(other).encode())).status_code == 200
    assert inbox.stored == []


async def test_webhook_returns_503_before_identity_is_known() -> None:
    assert (await post(MemoryInbox(), json.dumps(UPDATE).encode(), me=None)).status_code == 503


async def _registered(base: str, check: Callable[[], Any], **settings: Any) -> None:
    async with channel(base, **settings) as telegram:
        task = asyncio.create_task(telegram.run())
        try:
            await until(check)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_webhook_is_registered(standin: Control) -> None:
    def calls() -> list[dict[str, Any]]:
        return [call for call in standin.get("calls") if call["method"] == "setwebhook"]

    await _registered(standin.base_url, calls)
    assert calls()[0]["params"] == {
        "url": "https://127.0.0.1:9/telegram/webhook",
        "secret_token": SECRET,
        "allowed_updates": '["message", "edited_message"]',
        "max_connections": "40",
    }


async def test_other_bot_does_not_register_webhook(standin: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "CHECK_EVERY", 0.02)
    seen: list[int] = []

    async with channel(standin.base_url, registers_webhook=False) as telegram:
        started = telegram._reception
        task = asyncio.create_task(telegram.run())
        await until(lambda: started.identity is not None)
        # Several rounds, each of which would register the webhook.
        await asyncio.sleep(0.1)
        seen.append(len(telegram.routes()))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert seen == [1]
    assert not [call for call in standin.get("calls") if "webhook" in call["method"]]


@pytest.fixture
def uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the certificate that is uploaded, with short retry delays."""
    monkeypatch.setattr(reception, "backoff", lambda failures: 0.05)
    file = tmp_path / "fullchain.pem"
    file.write_text(_certificate("one"))
    return file


async def test_changed_certificate_is_uploaded(
    standin: Control, uploaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "CHECK_EVERY", 0.02)

    def calls() -> int:
        return sum(call["method"] == "setwebhook" and "error" not in call for call in standin.get("calls"))

    def steps() -> Iterator[bool]:
        while calls() < 1:
            yield False
        uploaded.write_text(_certificate("two"))
        while calls() < 2:
            yield False
        with httpx.Client(trust_env=False, verify=NO_TLS) as other:
            other.get(f"{standin.base_url}/bot{TOKEN}/deleteWebhook")
        while calls() < 3:
            yield False
        yield True

    progress = steps()
    await _registered(standin.base_url, lambda: next(progress), upload_certificate=uploaded)
    assert calls() == 3


async def test_new_certificate_is_uploaded_without_waiting_for_check(
    standin: Control, uploaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reception, "CERTIFICATE_EVERY", 0.02)

    def uploaded_twice() -> bool:
        methods = [call["method"] for call in standin.get("calls") if "error" not in call]
        if methods.count("setwebhook") == 1:
            uploaded.write_text(second)
        return methods.count("setwebhook") == 2

    second = _certificate("two")
    await _registered(standin.base_url, uploaded_twice, upload_certificate=uploaded)
    assert not [call for call in standin.get("calls") if call["method"] == "getwebhookinfo"]


def _certificate(name: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC).replace(tzinfo=None)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now)
    signed = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


async def _polled_often(
    monkeypatch: pytest.MonkeyPatch, polls: int, answers: Callable[[int], httpx.Response]
) -> tuple[list[float], MemoryInbox]:
    """Let the bot poll a server that answers so many polls at once and holds the next one open.

    Return the pauses of the bot, which are recorded and not waited for.
    """
    pauses: list[float] = []
    asked, held, inbox = 0, asyncio.Event(), MemoryInbox()
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def answer(request: httpx.Request) -> httpx.Response:
        nonlocal asked
        if request.url.path.endswith("getMe"):
            return httpx.Response(200, json={"ok": True, "result": {"id": 1000, "username": "clawd_bot"}})
        if not request.url.path.endswith("getUpdates"):
            return httpx.Response(200, json={"ok": True, "result": True})
        asked += 1
        if asked > polls:
            held.set()
            await asyncio.Event().wait()
        return answers(asked)

    monkeypatch.setattr(asyncio, "sleep", pause)
    transport = httpx.MockTransport(answer)
    async with channel("http://api", inbox, transport=transport, mode="polling") as telegram:
        task = asyncio.create_task(telegram.run())
        async with asyncio.timeout(10.0):
            await held.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return pauses, inbox


@pytest.mark.parametrize("again", [[], [UPDATE]])
async def test_immediate_empty_polls_are_throttled(monkeypatch: pytest.MonkeyPatch, again: list[Any]) -> None:
    """Without a pause it was polled hundreds of times a second, which took most of a core."""
    nothing_new = {"ok": True, "result": again}
    polls = 8 + len(again)
    pauses, inbox = await _polled_often(monkeypatch, polls, lambda _: httpx.Response(200, json=nothing_new))
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert len(inbox.stored) == len(again)


async def test_consecutive_updates_are_fetched_without_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(number: int) -> httpx.Response:
        return httpx.Response(200, json={"ok": True, "result": [UPDATE | {"update_id": number}]})

    pauses, inbox = await _polled_often(monkeypatch, 20, answer)
    assert pauses == []
    assert [inbound.event_id for inbound in inbox.stored] == [f"1000:{number}" for number in range(1, 21)]


@pytest.mark.parametrize("bad", [7, {}, {"update_id": 10**400}, {"update_id": True}, {"update_id": None}, []])
async def test_update_without_number_does_not_block_polling(
    monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    body = json.dumps({"ok": True, "result": [bad, UPDATE, bad]}).encode()
    _, inbox = await _polled_often(monkeypatch, 2, lambda _: httpx.Response(200, content=body))
    assert [inbound.text for inbound in inbox.stored] == ["hello"]
    assert inbox.states == {("telegram", "offset:1000"): str(UPDATE["update_id"] + 1)}


async def test_message_refused_by_database_does_not_block_polling(
    standin: Control, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(MemoryInbox):
        async def store(self, inbound: Inbound) -> bool:
            if inbound.text == "poison":
                raise StoreRefused("the database refuses it")
            return await super().store(inbound)

    inbox = Refusing()
    for text in ("before", "poison", "after"):
        standin.post("messages", text=text)
    await _polled(standin.base_url, inbox, lambda: len(inbox.stored) == 2)
    assert [inbound.text for inbound in inbox.stored] == ["before", "after"]
    assert "ignored message" in caplog.text


async def test_wrong_secrets_are_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async with channel("http://api", MemoryInbox()) as telegram:
        application = Starlette(routes=telegram.routes())
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot") as http:
            for _ in range(20):
                assert (await http.post("/telegram/webhook", content=b"{}")).status_code == 401
    assert len(caplog.records) == 1


async def test_webhook_response_shows_typing() -> None:
    """Immediately, and without a separate call of the bot."""
    topic = {"chat": {"id": -100, "type": "supergroup"}, "message_thread_id": 3, "is_topic_message": True}
    to_bot = {"reply_to_message": {"message_id": 1, "from": {"id": 1000, "is_bot": True}}}
    in_topic = UPDATE | {"message": UPDATE["message"] | topic | to_bot}
    shown = aiogram.methods.SendChatAction
    for update, place in ((UPDATE, {"chat_id": CHAT}), (in_topic, {"chat_id": -100, "message_thread_id": 3})):
        answer = (await post(MemoryInbox(), json.dumps(update).encode())).json()
        assert answer.pop("method") == shown.__api_method__
        assert shown.model_validate(answer) == shown.model_validate({"action": "typing", **place})


async def test_duplicate_or_unaddressed_message_shows_no_typing() -> None:
    inbox = MemoryInbox()
    await post(inbox, json.dumps(UPDATE).encode())
    assert (await post(inbox, json.dumps(UPDATE).encode())).content == b""
    group = UPDATE | {"message": UPDATE["message"] | {"chat": {"id": -100, "type": "group"}}}
    assert (await post(MemoryInbox(), json.dumps(group).encode())).content == b""
