"""Thousands of strange requests to both webhooks, the console and the alerts: no 5xx, and no exit of the bot.

The requests are authentic (secret, signature, token), so that their content is read, and are valid ones with
strange values inserted. A failure prints the seed; `CLAWD_TEST_SEED` repeats its run, and `CLAWD_TEST_FUZZ`
is the number of requests to each target.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import hashlib
import hmac
import json
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.bot.postgres import PASSWORD, Server
from tests.bot.program import Program, model_server
from tests.standins.feishu.envelope import encrypt, sealed, signed
from tests.standins.feishu.state import Credentials
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving

REQUESTS = int(os.environ.get("CLAWD_TEST_FUZZ", "5000"))
AT_ONCE = 16
SECRET = "webhook-secret-token"
JWT_SECRET = "console-secret-0123456789abcdef-0123456789"
FEISHU = Credentials()
CREDENTIALS = {
    "telegram-token": "1000:telegram-token",
    "telegram-secret-token": SECRET,
    "feishu-app-secret": FEISHU.app_secret,
    "feishu-encrypt-key": FEISHU.encrypt_key,
    "feishu-verification-token": FEISHU.verification_token,
    "console-jwt-secret": JWT_SECRET,
    "alerts-token": "alerts",
    "database-password": PASSWORD,
}
USER = {"id": 7, "is_bot": False, "first_name": "Ada", "language_code": "en"}
CHAT = {"id": 7, "type": "private", "first_name": "Ada"}
UPDATE = {
    "update_id": 1,
    "message": {
        "message_id": 5,
        "from": USER,
        "chat": CHAT,
        "date": 1_700_000_000,
        "text": "@clawd_bot hello",
        "entities": [{"type": "mention", "offset": 0, "length": 10, "user": USER}],
        "reply_to_message": {"message_id": 4, "from": USER, "chat": CHAT, "text": "before", "photo": [{}]},
        "external_reply": {"origin": {"type": "user"}, "document": {"file_name": "a.pdf"}},
        "quote": {"text": "bef", "position": 0},
        "forward_origin": {"type": "user", "sender_user": USER},
        "photo": [{"file_id": "x"}],
        "document": {"file_name": "report.pdf"},
        "is_topic_message": True,
        "message_thread_id": 3,
    },
}
POST = {"title": "t", "content": [[{"tag": "at", "user_id": "@_user_1"}, {"tag": "text", "text": "hi"}]]}
EVENT = {
    "schema": "2.0",
    "header": {
        "event_id": "e1",
        "event_type": "im.message.receive_v1",
        "create_time": "1700000000000",
        "token": FEISHU.verification_token,
        "app_id": FEISHU.app_id,
        "tenant_key": "t",
    },
    "event": {
        "sender": {"sender_id": {"open_id": "ou_ada"}, "sender_type": "user", "tenant_key": "t"},
        "message": {
            "message_id": "om_1",
            "parent_id": "om_0",
            "thread_id": "omt_1",
            "create_time": "1700000000000",
            "chat_id": "oc_1",
            "chat_type": "group",
            "message_type": "post",
            "content": json.dumps(POST),
            "mentions": [{"key": "@_user_1", "id": {"open_id": "ou_bot"}, "name": "Clawd"}],
        },
    },
}
QUESTION = {"text": "hello", "conversation": "c", "id": "1"}
CLAIMS = {"sub": "ada", "exp": 0, "iat": 0, "nbf": 0, "jti": "1"}
ALERTS = {
    "version": "4",
    "groupKey": "g",
    "status": "firing",
    "truncatedAlerts": 0,
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Disk", "host": "db1", "severity": "critical"},
            "annotations": {"summary": "full"},
            "startsAt": "2026-01-01T00:00:00Z",
            "fingerprint": "f",
        }
    ],
}
HEADERS = {"Content-Type": "application/json"}


def deep(depth: int) -> Any:
    """Return a value nested `depth` levels deep; the encoder's limit is reached, deeper ones are texts."""
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"message": value}
    return value


STRANGE: tuple[Callable[[random.Random], Any], ...] = (
    lambda r: None,
    lambda r: r.choice([True, False, 0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**63, -(2**63) - 1, 2**64]),
    lambda r: int("9" * r.choice([20, 400, 4000])),
    lambda r: r.choice([1.5, 1e308, -0.0, float("inf"), float("nan")]),
    lambda r: "9" * r.choice([13, 400, 5000]),
    lambda r: r.choice(
        ["", " ", "\0", "a\0b", "\ud83d", "\udc00x", "\u200b", "😀" * 50, "\r\n", "../..", "%00"]
    ),
    lambda r: "x" * r.choice([129, 5000, 250_000]),
    lambda r: [],
    lambda r: {},
    lambda r: deep(r.choice([3, 90, 200])),
    lambda r: [r.choice([1, "a", None, {}])] * r.choice([1, 2000]),
    lambda r: {chr(r.randrange(0x20, 0xD7FF)): r.random() for _ in range(20)},
    lambda r: json.dumps(deep(r.choice([3, 200]))) if r.random() < 0.5 else "[" * 50_000,
    lambda r: "".join(chr(r.randrange(0x1, 0xD7FF)) for _ in range(r.randrange(1, 40))),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from places(child, (*path, key))


def mutated(r: random.Random, good: dict[str, Any]) -> bytes:
    """Return a valid value with one to three strange ones in it, sometimes with strange bytes."""
    value: Any = copy.deepcopy(good)
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        known = list(places(value))
        if not known:
            break
        *parents, last = r.choice(known)
        place = value
        for key in parents:
            place = place[key]
        match r.randrange(8):
            case 0:
                del place[last]
            case 1 if isinstance(place, dict):
                place[r.choice(["text", "id", "message", "type", "new_field", "\ud83d"])] = r.choice(STRANGE)(
                    r
                )
            case _:
                place[last] = r.choice(STRANGE)(r)
    if r.random() < 0.02:
        value = r.choice(STRANGE)(r)
    raw = json.dumps(value, ensure_ascii=r.random() < 0.7).encode("utf-8", "surrogatepass")
    if r.random() < 0.05:
        at = r.randrange(len(raw) + 1)
        return raw[:at] if r.random() < 0.5 else raw[:at] + bytes([r.randrange(256)]) + raw[at:]
    return raw


Made = tuple[str, bytes, dict[str, str]]


def telegram(r: random.Random) -> Made:
    good = copy.deepcopy(UPDATE) | {"update_id": r.randrange(10**9)}
    if r.random() < 0.5:
        for name in ("forward_origin", "quote", "photo", "document", "external_reply", "is_topic_message"):
            good["message"].pop(name, None)  # type: ignore[attr-defined]
    return "/telegram/webhook", mutated(r, good), HEADERS | {"X-Telegram-Bot-Api-Secret-Token": SECRET}


def feishu(r: random.Random) -> Made:
    good: dict[str, Any] = copy.deepcopy(EVENT)
    good["header"]["event_id"] = good["event"]["message"]["message_id"] = uuid.UUID(
        int=r.getrandbits(128)
    ).hex
    if r.random() < 0.5:
        good["event"]["message"] |= {"message_type": "text", "content": json.dumps({"text": "@_user_1 hi"})}
    inner = mutated(r, good)
    if r.random() < 0.2:
        good["event"]["message"]["content"] = mutated(r, POST).decode("utf-8", "replace")
        inner = json.dumps(good).encode()
    envelope = signed(FEISHU.encrypt_key, sealed(encrypt(FEISHU.encrypt_key, inner)), time.time())
    if r.random() < 0.1:
        stamp = r.choice(["9" * 400, "9" * 4400, "-1", "1e9", ""])
        made = hashlib.sha256(f"{stamp}n{FEISHU.encrypt_key}".encode() + envelope.body).hexdigest()
        names = ("X-Lark-Request-Timestamp", "X-Lark-Request-Nonce", "X-Lark-Signature")
        return "/feishu/webhook", envelope.body, HEADERS | dict(zip(names, (stamp, "n", made), strict=True))
    return "/feishu/webhook", envelope.body, HEADERS | envelope.headers


def console(r: random.Random) -> Made:
    now = int(time.time())
    claims: dict[str, Any] = CLAIMS | {"exp": now + 300, "iat": now - 10, "nbf": now - 10}
    claims["jti"] = uuid.uuid4().hex
    told = mutated(r, claims) if r.random() < 0.3 else json.dumps(claims).encode()
    parts = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (b'{"alg":"HS256"}', told))
    made = base64.urlsafe_b64encode(hmac.new(JWT_SECRET.encode(), parts, hashlib.sha256).digest()).rstrip(
        b"="
    )
    token = f"{parts.decode()}.{made.decode()}"[:8000]
    body = mutated(r, QUESTION | {"id": str(r.getrandbits(64))})
    return "/console/v1/messages", body, HEADERS | {"Authorization": f"Bearer {token}"}


def alerts(r: random.Random) -> Made:
    return (
        "/alerts",
        mutated(r, ALERTS | {"groupKey": str(r.random())}),
        HEADERS | {"Authorization": "Bearer alerts"},
    )


def platforms() -> Starlette:
    """Both platforms, with the calls that are needed to answer."""

    async def telegram_method(request: Request) -> Response:
        results: dict[str, Any] = {
            "getMe": {"id": 1000, "is_bot": True, "username": "clawd_bot"},
            "getWebhookInfo": {"url": "http://127.0.0.1:1/telegram/webhook"},
        }
        result = results.get(request.path_params["method"], {"message_id": 1})
        return JSONResponse({"ok": True, "result": result})

    async def feishu_call(request: Request) -> Response:
        bot = {"open_id": "ou_bot"}
        data = {"message_id": "om_2", "reaction_id": "r", "items": []}
        token = {"tenant_access_token": "t", "expire": 7200}
        return JSONResponse({"code": 0, "bot": bot, "data": data, **token})

    return Starlette(
        routes=[
            Route("/bot{token}/{method}", telegram_method, methods=["POST"]),
            Route("/open-apis/{path:path}", feishu_call, methods=["GET", "POST", "DELETE"]),
        ]
    )


@contextmanager
def bot(folder: Path, **settings: Any) -> Iterator[Program]:
    with serving(platforms()) as place, serving(model_server()) as model:
        channels = {
            "telegram": {"api_base": place},
            "feishu": {"app_id": FEISHU.app_id, "api_base": place},
            "console": {},
            "alerts": {"telegram_chat": 7},
        }
        more: dict[str, Any] = {"public_url": "http://127.0.0.1:1"} | settings
        with Program(folder, model, channels, CREDENTIALS, **more) as program:
            program.start()
            program.wait_alive()
            _wait_introduced(program)
            yield program


def _wait_introduced(program: Program) -> None:
    """Wait until the bot knows its name: before that, Telegram's calls get 503 on purpose."""
    deadline = time.monotonic() + 20
    headers = HEADERS | {"X-Telegram-Bot-Api-Secret-Token": SECRET}
    url = f"{program.url}/telegram/webhook"
    while (
        httpx.post(url, json={"update_id": 0}, headers=headers, trust_env=False, verify=NO_TLS).status_code
        == 503
    ):
        assert time.monotonic() < deadline, program.log.read_text()[-3000:]
        time.sleep(0.05)


async def _post(http: httpx.AsyncClient, made: Made) -> int:
    path, body, headers = made
    async with http.stream("POST", path, content=body, headers=headers) as answer:
        if answer.headers.get("content-type", "").startswith("text/event-stream"):
            async for line in answer.aiter_lines():
                if line.startswith(": stored"):
                    break  # like a client that is closed
        else:
            await answer.aread()
    return answer.status_code


async def attack(program: Program, make: Callable[[random.Random], Made], r: random.Random) -> Counter[int]:
    statuses: Counter[int] = Counter()
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(
        base_url=program.url, trust_env=False, verify=NO_TLS, timeout=60.0, limits=limits
    ) as http:

        async def some(count: int) -> None:
            for _ in range(count):
                made = make(r)
                status = await _post(http, made)
                statuses[status] += 1
                assert status < 500, (status, made[0], made[1][:500])

        await asyncio.gather(*(some(REQUESTS // AT_ONCE + 1) for _ in range(AT_ONCE)))
    return statuses


@pytest.mark.campaign
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
@pytest.mark.parametrize("make", [telegram, feishu, console, alerts])
async def test_fuzzed_requests_cause_no_server_error_or_exit(
    tmp_path: Path, postgres: Server, make: Callable[[random.Random], Made], database: str
) -> None:
    seed = int(os.environ.get("CLAWD_TEST_SEED", random.SystemRandom().randrange(2**32)))
    print(f"CLAWD_TEST_SEED={seed}")
    settings = {"database": postgres.new_database()} if database == "postgresql" else {}
    with bot(tmp_path, **settings) as program:
        statuses = await attack(program, make, random.Random(seed))
        print(dict(statuses))
        assert statuses.total() >= REQUESTS
        assert statuses[200] > REQUESTS / 100  # otherwise no content was tested
        program.settle(120.0)
        log = program.log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") - 300 :][:3000]
        assert len(log) < 300 * REQUESTS
        # Later messages are answered as before.
        made = UPDATE | {"update_id": 2**40, "message": {**UPDATE["message"], "text": "still there?"}}  # type: ignore[dict-item]
        headers = HEADERS | {"X-Telegram-Bot-Api-Secret-Token": SECRET}
        answer = httpx.post(
            f"{program.url}/telegram/webhook", json=made, headers=headers, trust_env=False, verify=NO_TLS
        )
        assert answer.status_code == 200
        program.settle(60.0)
        assert program.process is not None
        assert program.process.poll() is None
        assert program.terminate() == 0
