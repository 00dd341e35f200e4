"""Receiving: long polling and webhook, with the stand-in of the Bot API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from starlette.applications import Starlette

from clawd_runtime.bot.channels import telegram_reception
from clawd_runtime.bot.channels.telegram_updates import Identity
from clawd_runtime.bot.values import Inbound
from clawd_runtime.errors import StoreError
from tests.bot.channels.fakes import MemoryInbox
from tests.bot.channels.telegram_bench import CHAT, ME, SECRET, TOKEN, bot_api, channel, until
from tests.standins.control import Control


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


def test_polling_stores_and_confirms(standin: Control) -> None:
    inbox = MemoryInbox()
    for number in range(3):
        standin.post("messages", text=f"message {number}")
    asyncio.run(_polled(standin.base_url, inbox, lambda: len(inbox.stored) == 3))
    assert [inbound.text for inbound in inbox.stored] == ["message 0", "message 1", "message 2"]
    last = int(inbox.stored[-1].event_id.partition(":")[2])
    assert inbox.states == {("telegram", "offset:1000"): str(last + 1)}
    standin.post("messages", text="message 3")
    asyncio.run(_polled(standin.base_url, inbox, lambda: len(inbox.stored) == 4))
    assert [inbound.text for inbound in inbox.stored[3:]] == ["message 3"]


def test_only_the_bot_that_leads_polls_and_it_goes_on_from_the_common_offset(
    standin: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_reception, "FOLLOW_SECONDS", 0.02)
    inbox = MemoryInbox()
    inbox.leading = False

    async def watched() -> None:
        async with channel(standin.base_url, inbox, mode="polling") as telegram:
            task = asyncio.create_task(telegram.run())
            await until(lambda: telegram._reception.identity is not None)
            await asyncio.sleep(0.1)
            assert not [call for call in standin.get("calls") if call["method"] == "getupdates"]
            inbox.leading = True
            await until(lambda: len(inbox.stored) == 1)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    standin.post("messages", text="message")
    asyncio.run(watched())


def test_polling_removes_a_webhook_and_survives_conflicts(
    standin: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_reception, "backoff", lambda failures: 0.01)
    inbox = MemoryInbox()
    with httpx.Client(trust_env=False) as other:
        set_webhook = f"{standin.base_url}/bot{TOKEN}/setWebhook?url=https://127.0.0.1:9/"
        assert other.get(set_webhook).status_code == 200
    conflict = {"ok": False, "error_code": 409, "description": "Conflict"}
    standin.post("faults", match="getUpdates", status=409, body=conflict, times=3)
    standin.post("faults", match="getUpdates", drop="before")
    standin.post("faults", match="getUpdates", status=502)
    standin.post("faults", match="getUpdates", status=200, body={"ok": True, "result": {"not": "a list"}})
    standin.post("messages", text="still here")
    asyncio.run(_polled(standin.base_url, inbox, lambda: inbox.stored))
    assert inbox.stored[0].text == "still here"
    assert sum(call["method"] == "deletewebhook" for call in standin.get("calls")) == 4


def test_polling_does_not_confirm_what_was_not_stored(standin: Control) -> None:
    inbox = MemoryInbox()
    inbox.failure = RuntimeError("disk full")
    standin.post("messages", text="precious")
    with pytest.raises(RuntimeError):
        asyncio.run(_run_once(standin.base_url, inbox))
    assert inbox.states == {}
    inbox.failure = None
    asyncio.run(_polled(standin.base_url, inbox, lambda: inbox.stored))


def test_polling_goes_on_when_the_disk_has_room_again(
    standin: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_reception, "backoff", lambda failures: 0.01)
    failures = iter(range(3))

    class SoonWithRoom(MemoryInbox):
        async def store(self, inbound: Inbound) -> bool:
            if next(failures, None) is not None:
                raise StoreError("the disk is full")
            return await super().store(inbound)

    inbox = SoonWithRoom()
    standin.post("messages", text="precious")
    asyncio.run(_polled(standin.base_url, inbox, lambda: inbox.stored))
    assert [inbound.text for inbound in inbox.stored] == ["precious"]


async def _run_once(base: str, inbox: MemoryInbox) -> None:
    async with channel(base, inbox, mode="polling") as telegram:
        await asyncio.wait_for(telegram.run(), 10.0)


def test_an_update_that_cannot_be_read_holds_up_nothing(standin: Control) -> None:
    inbox = MemoryInbox()
    standin.post("updates", type="message", payload={"odd": True}, chat_id=CHAT)
    standin.post("messages", text="after it")
    asyncio.run(_polled(standin.base_url, inbox, lambda: inbox.stored))
    assert [inbound.text for inbound in inbox.stored] == ["after it"]


UPDATE = {
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
    me: Identity | None = ME,
) -> httpx.Response:
    async with channel("http://api", inbox) as telegram:
        telegram._reception.identity = me
        app = httpx.ASGITransport(Starlette(routes=list(telegram.routes())))
        async with httpx.AsyncClient(transport=app, base_url="http://bot") as client:
            return await client.post("/telegram/webhook", content=body, headers=headers)


def post(inbox: MemoryInbox, body: bytes, *, secret: str | None = SECRET, **more: Any) -> httpx.Response:
    headers = {} if secret is None else {"X-Telegram-Bot-Api-Secret-Token": secret}
    return asyncio.run(_post(inbox, body, headers, **more))


def test_a_webhook_call_is_stored() -> None:
    inbox = MemoryInbox()
    assert post(inbox, json.dumps(UPDATE).encode()).status_code == 200
    assert [inbound.text for inbound in inbox.stored] == ["hello"]


@pytest.mark.parametrize("secret", [None, "", "wrong", SECRET + "x", SECRET.upper()])
def test_a_wrong_secret_gets_nothing(secret: str | None) -> None:
    inbox = MemoryInbox()
    response = post(inbox, json.dumps(UPDATE).encode(), secret=secret)
    assert (response.status_code, response.content) == (401, b"")
    assert inbox.stored == []


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"{}", b"\xff", b'{"update_id": null}'])
def test_a_malformed_body(body: bytes) -> None:
    assert post(MemoryInbox(), body).status_code == 400


@pytest.mark.parametrize(
    "update",
    [
        {"update_id": 872, "message": {"message_id": 1, "chat": {"id": CHAT}}},
        {"update_id": 873, "message": UPDATE["message"] | {"entities": [{"type": "mention"}]}},  # type: ignore[operator]
        {"update_id": 874, "message": "of a new kind"},
    ],
)
def test_an_update_that_cannot_be_read_is_not_asked_for_again(
    update: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Telegram would repeat it for a day, and what comes after it would wait."""
    inbox = MemoryInbox()
    assert post(inbox, json.dumps(update).encode()).status_code == 200
    assert inbox.stored == []
    assert str(update["update_id"]) in caplog.text


def test_updates_of_other_kinds_are_taken_and_left() -> None:
    inbox = MemoryInbox()
    edited = {"update_id": 871, "edited_message": UPDATE["message"]}
    assert post(inbox, json.dumps(edited).encode()).status_code == 200
    assert inbox.stored == []


def test_before_the_bot_knows_its_name_telegram_is_asked_to_repeat() -> None:
    assert post(MemoryInbox(), json.dumps(UPDATE).encode(), me=None).status_code == 503


async def _registered(base: str, check: Callable[[], Any], **settings: Any) -> None:
    async with channel(base, **settings) as telegram:
        task = asyncio.create_task(telegram.run())
        try:
            await until(check)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def test_the_webhook_is_registered(standin: Control) -> None:
    def calls() -> list[dict[str, Any]]:
        return [call for call in standin.get("calls") if call["method"] == "setwebhook"]

    asyncio.run(_registered(standin.base_url, calls))
    assert calls()[0]["params"] == {
        "url": "https://127.0.0.1:9/telegram/webhook",
        "secret_token": SECRET,
        "allowed_updates": '["message"]',
        "max_connections": "40",
    }


def test_a_bot_beside_the_one_that_registers_answers_and_leaves_the_webhook_alone(
    standin: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_reception, "CHECK_EVERY", 0.02)
    seen: list[int] = []

    async def watched() -> None:
        async with channel(standin.base_url, registers_webhook=False) as telegram:
            reception = telegram._reception
            task = asyncio.create_task(telegram.run())
            await until(lambda: reception.identity is not None)
            # Several rounds, each of which would register it.
            await asyncio.sleep(0.1)
            seen.append(len(telegram.routes()))
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(watched())
    assert seen == [1]
    assert not [call for call in standin.get("calls") if "webhook" in call["method"]]


@pytest.fixture
def uploaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a certificate that Telegram is shown; refusals are soon over."""
    monkeypatch.setattr(telegram_reception, "backoff", lambda failures: 0.05)
    file = tmp_path / "fullchain.pem"
    file.write_text(_certificate("one"))
    return file


def test_the_certificate_is_uploaded_again_when_it_changes(
    standin: Control, uploaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_reception, "CHECK_EVERY", 0.02)

    def calls() -> int:
        return sum(call["method"] == "setwebhook" and "error" not in call for call in standin.get("calls"))

    def steps() -> Iterator[bool]:
        while calls() < 1:
            yield False
        uploaded.write_text(_certificate("two"))
        while calls() < 2:
            yield False
        with httpx.Client(trust_env=False) as other:
            other.get(f"{standin.base_url}/bot{TOKEN}/deleteWebhook")
        while calls() < 3:
            yield False
        yield True

    progress = steps()
    asyncio.run(_registered(standin.base_url, lambda: next(progress), upload_certificate=uploaded))
    assert calls() == 3


def test_a_new_certificate_does_not_wait_until_telegram_is_asked_again(
    standin: Control, uploaded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telegram_reception, "CERTIFICATE_EVERY", 0.02)

    def uploaded_twice() -> bool:
        methods = [call["method"] for call in standin.get("calls") if "error" not in call]
        if methods.count("setwebhook") == 1:
            uploaded.write_text(second)
        return methods.count("setwebhook") == 2

    second = _certificate("two")
    asyncio.run(_registered(standin.base_url, uploaded_twice, upload_certificate=uploaded))
    assert not [call for call in standin.get("calls") if call["method"] == "getwebhookinfo"]


def _certificate(name: str) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC).replace(tzinfo=None)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number(), now)
    signed = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()
