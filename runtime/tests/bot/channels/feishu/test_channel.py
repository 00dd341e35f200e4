"""The Feishu channel with the strict stand-in, the real store, and forged requests."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import lark_oapi as lark
import pytest
from lark_oapi.core.model import RawRequest
from pydantic import ValidationError
from starlette.applications import Starlette

from clawd_runtime.bot.channels.base import ChannelContext, RetryLater, Undeliverable
from clawd_runtime.bot.channels.feishu import channel as feishu_channel
from clawd_runtime.bot.channels.feishu import crypto
from clawd_runtime.bot.channels.feishu.api import size_in_request
from clawd_runtime.bot.channels.feishu.channel import FeishuChannel, FeishuSettings
from clawd_runtime.bot.credentials import Credentials as Secrets
from clawd_runtime.bot.ports import StoredAnswer, TokenUse
from clawd_runtime.bot.service.app import KEEP_SECONDS
from clawd_runtime.bot.store.backends.database import open_database
from clawd_runtime.bot.store.store import Store
from clawd_runtime.bot.values import ConversationKey, Inbound, MessagePart, Quote, Reply, reply_key
from clawd_runtime.errors import ChannelError
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.envelope import FORGERIES, encrypt, plain, sealed, signed, wrapped
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


@dataclass
class Noting:
    """The real store, recording new messages."""

    store_: Store
    stored: list[Inbound] = field(default_factory=list)
    known: int = 0
    broken: bool = False

    async def store(self, inbound: Inbound) -> bool:
        if self.broken:
            raise OSError("disk full")
        added = await self.store_.store(inbound)
        if added:
            self.stored.append(inbound)
        else:
            self.known += 1
        return added

    async def store_all(self, inbounds: Sequence[Inbound], channel: str, state: Mapping[str, str]) -> None:
        raise NotImplementedError

    async def state(self, channel: str, name: str) -> str | None:
        raise NotImplementedError

    async def answer_to(self, channel: str, event_id: str) -> StoredAnswer | None:
        raise NotImplementedError

    async def leads(self, role: str) -> bool:
        raise NotImplementedError

    async def use_token(self, token: str, request: str, expires_at: float) -> TokenUse:
        raise NotImplementedError


@dataclass
class Bot:
    """The channel, served at `url`, with its inbox."""

    url: str
    inbox: Noting

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return httpx.post(self.url, content=body, headers=dict(headers or {}), trust_env=False, verify=NO_TLS)

    @property
    def texts(self) -> list[str]:
        return [inbound.text for inbound in self.inbox.stored]


def app_of(inbox: Noting, api_base: str, **settings: Any) -> Starlette:
    http = httpx.AsyncClient(trust_env=False, verify=NO_TLS)
    checked = FeishuSettings(app_id=APP.app_id, api_base=api_base, **settings)
    channel = FeishuChannel(checked, ChannelContext(inbox, http, SECRETS, None))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with http:
            yield

    return Starlette(routes=channel.routes(), lifespan=lifespan)


@pytest.fixture
async def inbox(anyio_backend: str, tmp_path: Path) -> AsyncIterator[Noting]:
    database = open_database(f"sqlite:///{tmp_path}/bot.db")
    store = Store(database)
    await store.join(1, ("feishu",))
    yield Noting(store)
    database.close()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(FeishuStandin(APP, pace=0.01).app) as base_url:
        yield base_url


@pytest.fixture
def control(served: str) -> Iterator[Control]:
    with Control(served) as control:
        control.post("reset")
        yield control


@pytest.fixture
def bot(inbox: Noting, control: Control) -> Iterator[Bot]:
    with serving(app_of(inbox, control.base_url)) as url:
        bot = Bot(f"{url}/feishu/webhook", inbox)
        control.post("webhook", url=bot.url)
        yield bot


def a_message(text: str = "hello", **header: str) -> dict[str, Any]:
    """Return an event in the platform's form."""
    return {
        "schema": "2.0",
        "header": {
            "event_id": "e1",
            "event_type": "im.message.receive_v1",
            "token": APP.verification_token,
            "app_id": APP.app_id,
            **header,
        },
        "event": {
            "sender": {"sender_id": {"open_id": "ou_ada"}, "sender_type": "user"},
            "message": {
                "message_id": "om_1",
                "create_time": "1609073151345",
                "chat_id": "oc_1",
                "chat_type": "p2p",
                "message_type": "text",
                "content": json.dumps({"text": text}),
            },
        },
    }


def test_message_is_stored_before_acknowledgement(control: Control, bot: Bot) -> None:
    given = control.post("messages", text="hello", user="ou_ada")
    (attempt,) = control.eventually(lambda: control.get("deliveries"))
    assert attempt["status"] == 200
    (inbound,) = bot.inbox.stored
    assert (inbound.event_id, inbound.message_id) == (given["event_id"], given["message"]["message_id"])
    assert (inbound.user, inbound.text, inbound.addressed) == ("ou_ada", "hello", True)


@pytest.mark.parametrize(
    ("api_base", "language"),
    [
        ("https://open.feishu.cn", "zh"),
        ("https://open.larksuite.com", None),
        ("https://feishu.cn.example.com", None),
    ],
)
def test_language_defaults_to_platform(inbox: Noting, api_base: str, language: str | None) -> None:
    """A picture, or `/help`: events have no language, and Feishu, unlike Lark, is for China."""
    with serving(app_of(inbox, api_base)) as url:
        sent = wrapped(SECRETS["feishu-encrypt-key"], a_message("/help"), time.time())
        assert Bot(f"{url}/feishu/webhook", inbox).post(sent.body, sent.headers).status_code == 200
    assert [inbound.language for inbound in inbox.stored] == [language]


def test_unstored_message_is_not_acknowledged(control: Control, bot: Bot) -> None:
    bot.inbox.broken = True
    control.post("messages", text="hello")
    (attempt, *_) = control.eventually(lambda: control.get("deliveries"))
    assert attempt["status"] == 500
    bot.inbox.broken = False
    assert control.eventually(lambda: bot.texts) == ["hello"]


def test_mention_in_feishu_group_addresses_bot(control: Control, bot: Bot) -> None:
    control.post("app", group_messages=True)
    control.post(
        "messages", chat_id="oc_team", text="among us", mentions=[{"open_id": "ou_b", "name": "Bob"}]
    )
    control.post("messages", chat_id="oc_team", text="and you?", mention_bot=True)
    control.eventually(lambda: len(bot.inbox.stored) == 2)
    seen = {inbound.text: inbound.addressed for inbound in bot.inbox.stored}
    assert seen == {"@Bob among us": False, "and you?": True}


def test_group_message_gets_503_before_identity_is_known(control: Control, bot: Bot) -> None:
    control.post("faults", match="/bot/v3/info", status=500)
    control.post("messages", chat_id="oc_team", text="hello", mention_bot=True)
    (inbound,) = control.eventually(lambda: bot.inbox.stored)
    assert inbound.addressed
    assert control.get("deliveries")[0]["status"] == 503


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_event_is_refused_and_not_stored(control: Control, bot: Bot, kind: str) -> None:
    assert control.post("forge", kind=kind, message={"text": "let me in"})["status"] == 401
    assert bot.inbox.stored == []


def test_all_forged_events_get_the_same_response(bot: Bot) -> None:
    """Different responses would be a padding oracle."""
    now, key = time.time(), APP.encrypt_key
    good = sealed(encrypt(key, plain(a_message())))
    answers = [
        bot.post(b"no json"),
        bot.post(b"{}"),
        bot.post(good),
        bot.post(good, {"X-Lark-Signature": "0" * 64}),
        bot.post(sealed(encrypt(key, b"x" * 16, padded=False))),
        bot.post(sealed(encrypt("another key", plain(a_message())))),
        bot.post(sealed(encrypt(key, plain({"type": "url_verification", "token": "guessed"})))),
        *(
            bot.post(envelope.body, envelope.headers)
            for envelope in (
                signed("another key", good, now),
                signed(key, good, now - feishu_channel.MAX_EVENT_AGE - 1),
                signed(key, good, now + 3600),
                wrapped(key, a_message(token="guessed"), now),
                wrapped(key, a_message(app_id="cli_other"), now),
                wrapped(key, a_message() | {"schema": "1.0"}, now),
                wrapped(key, {"schema": "2.0", "header": None}, now),
            )
        ),
    ]
    assert {(each.status_code, each.text) for each in answers} == {(401, '{"msg":"authentication failed"}')}
    assert bot.inbox.stored == []


def test_repeated_event_is_stored_once(control: Control, bot: Bot) -> None:
    event_id = control.post("messages", text="once")["event_id"]
    control.eventually(lambda: bot.inbox.stored)
    assert control.post("redeliver", event_id=event_id)["status"] == 200
    assert control.post("redeliver", event_id=event_id, new_event_id=True)["status"] == 200
    assert bot.texts == ["once"]
    assert bot.inbox.known == 2


@pytest.mark.parametrize("with_signature", [True, False])
def test_challenge_is_answered(bot: Bot, with_signature: bool) -> None:
    asked = {"type": "url_verification", "token": APP.verification_token, "challenge": "ajls384"}
    envelope = wrapped(APP.encrypt_key, asked, time.time())
    answer = bot.post(envelope.body, envelope.headers if with_signature else None)
    assert (answer.status_code, answer.json()) == (200, {"challenge": "ajls384"})
    assert bot.inbox.stored == []


def test_challenge_with_wrong_signature_is_refused(bot: Bot) -> None:
    asked = {"type": "url_verification", "token": APP.verification_token, "challenge": "ajls384"}
    envelope = wrapped(APP.encrypt_key, asked, time.time())
    assert bot.post(envelope.body, envelope.headers | {"X-Lark-Signature": "0" * 64}).status_code == 401


def test_unencrypted_challenge_is_refused(bot: Bot) -> None:
    asked = {"type": "url_verification", "token": APP.verification_token, "challenge": "ajls384"}
    assert bot.post(plain(asked)).status_code == 401


def test_long_unsigned_request_is_not_decrypted(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def open_envelope(key: str, body: bytes) -> dict[str, Any]:
        opened.append(len(body))
        return {}

    monkeypatch.setattr(feishu_channel, "open_envelope", open_envelope)
    assert bot.post(b"x" * 8193).status_code == 401
    assert opened == []
    assert bot.post(b"x" * 8192).status_code == 401
    assert opened == [8192]


def test_too_large_event_is_refused(bot: Bot) -> None:
    assert bot.post(b"x" * (1 << 20)).status_code == 401
    assert bot.post(b"x" * ((1 << 20) + 1)).status_code == 413


def test_other_events_are_acknowledged_and_ignored(control: Control, bot: Bot) -> None:
    control.post("events", event_type="im.chat.member.bot.added_v1", event={"chat_id": "oc_1"})
    (attempt,) = control.eventually(lambda: control.get("deliveries"))
    assert attempt["status"] == 200
    assert bot.inbox.stored == []


def test_max_event_age_is_configurable(inbox: Noting, control: Control) -> None:
    old = wrapped(APP.encrypt_key, a_message(), time.time() - 4000)
    with serving(app_of(inbox, control.base_url, max_event_age=3600)) as url:
        assert Bot(f"{url}/feishu/webhook", inbox).post(old.body, old.headers).status_code == 401
    with serving(app_of(inbox, control.base_url, max_event_age=7200)) as url:
        assert Bot(f"{url}/feishu/webhook", inbox).post(old.body, old.headers).status_code == 200


def test_events_older_than_feishus_retries_are_refused(inbox: Noting, control: Control) -> None:
    ages = {60.0: 200, 6.2 * 3600: 200, 8.1 * 3600: 401, -200.0: 200, -400.0: 401}
    with serving(app_of(inbox, control.base_url)) as url:
        bot = Bot(f"{url}/feishu/webhook", inbox)
        for age, status in ages.items():
            event = wrapped(APP.encrypt_key, a_message(), time.time() - age)
            assert bot.post(event.body, event.headers).status_code == status, age


def test_ids_are_kept_longer_than_max_event_age() -> None:
    assert feishu_channel.LONGEST_EVENT_AGE + crypto.CLOCK_DIFFERENCE < KEEP_SECONDS


@pytest.mark.parametrize("changed", ["nothing", "body", "nonce", "key", "token"])
def test_requests_are_accepted_or_refused_like_lark(bot: Bot, changed: str) -> None:
    event = a_message(token="guessed") if changed == "token" else a_message()
    envelope = wrapped("another key" if changed == "key" else APP.encrypt_key, event, time.time())
    headers = dict(envelope.headers)
    if changed == "nonce":
        headers["X-Lark-Request-Nonce"] += "0"
    body = envelope.body + b" " if changed == "body" else envelope.body
    theirs: list[Any] = []
    dispatcher = lark.EventDispatcherHandler.builder(APP.encrypt_key, APP.verification_token)
    raw = RawRequest()
    raw.uri, raw.headers, raw.body = "/feishu/webhook", headers, body
    judged = dispatcher.register_p2_im_message_receive_v1(theirs.append).build().do(raw)
    answer = bot.post(body, headers)
    assert (judged.status_code == 200) == (answer.status_code == 200) == (changed == "nothing")
    assert len(theirs) == len(bot.inbox.stored)


def reply_to(message: dict[str, Any], text: str) -> Reply:
    return Reply(
        key=reply_key("feishu", "e1", 0),
        event_id="e1",
        conversation=ConversationKey("feishu", message["chat_id"]),
        chat_kind="private",
        reply_to=message["message_id"],
        text=text,
    )


def channel(control: Control, http: httpx.AsyncClient) -> FeishuChannel:
    settings = FeishuSettings(app_id=APP.app_id, api_base=control.base_url)
    return FeishuChannel(settings, ChannelContext(Noting(None), http, SECRETS, None))  # type: ignore[arg-type]


async def send(control: Control, *replies: Reply) -> list[str]:
    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        ours = channel(control, http)
        return [(await ours.send(reply)).id for reply in replies]


def split(text: str) -> tuple[str, ...]:
    return channel(Control("http://unused.invalid"), httpx.AsyncClient()).split(text)


async def test_retried_reply_is_sent_once(control: Control) -> None:
    message = control.post("messages", text="how?")["message"]
    first, second = await send(control, reply_to(message, "so"), reply_to(message, "so"))
    assert first == second
    (sent,) = control.get("sent", parent_id=message["message_id"])
    assert json.loads(sent["body"]["content"]) == {"text": "so"}


async def test_permanent_refusal_is_undeliverable(control: Control) -> None:
    message = control.post("messages", text="how?", chat_id="oc_team", mention_bot=True)["message"]
    control.post("chats", id="oc_team", type="group", state="left")
    with pytest.raises(Undeliverable, match="230002"):
        await send(control, reply_to(message, "so"))
    assert [call["path"][-6:] for call in control.get("calls")].count("/reply") == 1


@pytest.mark.parametrize("gone", ["recalled", "deleted", "unknown", "topic", "invisible"])
async def test_answer_to_deleted_message_goes_to_chat_once(control: Control, gone: str) -> None:
    """Every part of a long answer arrives once, even if it is retried."""
    message = control.post("messages", text="how?")["message"]
    match gone:
        case "recalled":
            control.post("recall", message_id=message["message_id"])
        case "deleted":
            control.post("recall", message_id=message["message_id"], deleted=True)
        case "unknown":
            message["message_id"] = "om_of_another_tenant"
        case "topic":
            body = {"code": 230019, "msg": "The topic does NOT exist."}
            control.post("faults", match="/reply", status=400, body=body, times=3)
        case "invisible":
            body = {"code": 230050, "msg": "The message is invisible to the operator."}
            control.post("faults", match="/reply", status=400, body=body, times=3)
    first = reply_to(message, "so")
    second = replace(first, key=reply_key("feishu", "e1", 1), text="and so", part=1, parts=2)
    await send(control, first, second, first)
    sent = control.get("sent", chat_id=message["chat_id"])
    assert [json.loads(each["body"]["content"])["text"] for each in sent] == ["so", "and so"]
    assert not any("parent_id" in each for each in sent)


async def test_refusal_that_operator_can_fix_is_retried(control: Control) -> None:
    message = control.post("messages", text="how?")["message"]
    body = {"code": 99991672, "msg": "Access denied. One of the following scopes is required"}
    control.post("faults", match="/reply", status=400, body=body)
    with pytest.raises(RetryLater):
        await send(control, reply_to(message, "so"))


async def test_temporary_refusal_is_retried(control: Control) -> None:
    message = control.post("messages", text="how?")["message"]
    control.post("faults", match="/reply", status=429, headers={"x-ogw-ratelimit-reset": "4"})
    with pytest.raises(RetryLater) as limit:
        await send(control, reply_to(message, "so"))
    assert limit.value.after == 4.0


@pytest.mark.parametrize("text", ["x" * 200_000, "ü😀" * 60_000, '"\\\n' * 50_000, "<at " * 30_000])
async def test_long_answer_is_split_to_platform_limit(control: Control, text: str) -> None:
    parts = split(text)
    assert len(parts) > 1
    message = control.post("messages", text="how?")["message"]
    control.post("limits", receiver=[100, 1.0])
    for part in parts:
        assert 0 < size_in_request(part) < 150 * 1024
        await send(control, reply_to(message, part))
    assert "".join("".join(parts).split()) == "".join(text.replace("<at", "<\u200bat").split())


def test_short_answer_is_one_message() -> None:
    assert split("  indented\n") == ("  indented\n",)


@pytest.mark.parametrize("tag", ['<at user_id="all">all</at>', "<AT user_id='all'></AT>", "</at>"])
async def test_answer_cannot_mention_everyone(control: Control, tag: str) -> None:
    message = control.post("messages", text="how?")["message"]
    await send(control, reply_to(message, f"hey {tag} <attention> a<b"))
    (sent,) = control.get("sent")
    text = json.loads(sent["body"]["content"])["text"]
    assert "<at" not in text.lower().replace("<attention", "")
    assert "</at" not in text.lower()
    assert "<attention> a<b" in text


async def test_identity_is_fetched_again_after_failure(control: Control) -> None:
    control.post("faults", match="/internal", status=502)

    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        await asyncio.wait_for(channel(control, http).run(), 10)
    assert [call["path"] for call in control.get("calls")][-1] == "/open-apis/bot/v3/info"


def test_settings_and_credentials_are_validated() -> None:
    assert FeishuChannel.credentials(None) == (
        "feishu-app-secret",
        "feishu-encrypt-key",
        "feishu-verification-token",
    )
    for wrong in (
        {},
        {"app_id": "1"},
        {"app_id": "cli_1", "key": "x"},
        {"app_id": "cli_1", "max_event_age": 0},
    ):
        with pytest.raises(ValidationError):
            FeishuSettings.model_validate(wrong)


def signed_event(event: Any) -> tuple[bytes, dict[str, str]]:
    """Return an unusual event in the form in which Feishu would send it."""
    raw = event if isinstance(event, bytes) else plain(event)
    envelope = signed(APP.encrypt_key, sealed(encrypt(APP.encrypt_key, raw)), time.time())
    return envelope.body, envelope.headers


def strange(**message: Any) -> dict[str, Any]:
    event = a_message()
    event["event"]["message"] |= message
    return event


@pytest.mark.parametrize(
    "event",
    [
        b"[" * 100_000,
        b'{"schema": "2.0", "header": ' + b'{"a": ' * 50_000,
        b"[]",
        b"null",
        b'{"schema": "2.0", "n": ' + b"9" * 5000 + b"}",
        a_message(event_id=7),  # type: ignore[arg-type]
        a_message(event_id="e" * 1000),
        a_message(event_id="e\x00"),
        a_message(event_type=["im.message.receive_v1"]),  # type: ignore[arg-type]
        strange(create_time="9" * 400),
        strange(create_time=10**400),
        strange(create_time=True),
        strange(create_time="-1"),
        strange(create_time="\u0661"),
        strange(message_id={}),
        strange(message_id="om/../../x\n"),
        strange(chat_id=["oc_1"]),
        strange(chat_type=None),
        strange(mentions={"key": "@_user_1"}),
        strange(mentions=[{"key": "@_user_1", "id": {"open_id": 10**30}, "name": "Bob"}]),
        strange(mentions=[1] * 50_000),
        strange(content={"text": "no string"}),
        strange(content="{"),
        strange(content=json.dumps({"text": 7})),
        strange(content=json.dumps({"text": "x" * 300_000})),
        strange(content="[" * 50_000),
        strange(message_type="post", content=json.dumps({"content": {"a": 1}})),
        strange(message_type="post", content="[" * 900 + "]" * 900),
        strange(message_type="interactive", content='{"elements": ' + "[" * 500 + "]" * 500 + "}"),
        {"uuid": "u", "token": APP.verification_token, "type": "event_callback", "event": {}},
    ],
    ids=repr,
)
def test_unreadable_event_is_acknowledged(bot: Bot, event: Any, caplog: pytest.LogCaptureFixture) -> None:
    """It is authentic: Feishu would repeat a refused event for six hours."""
    assert bot.post(*signed_event(event)).status_code == 200
    assert bot.inbox.stored == []
    assert len([record for record in caplog.records if "unreadable event" in record.message]) == 1
    assert len(caplog.text) < 2000


@pytest.mark.parametrize("text", ["\x00", "a\x00b", "\ud83d", "😀 \udc00", "\u200b"])
def test_text_that_databases_do_not_accept_is_stored(bot: Bot, text: str) -> None:
    event = strange(content=json.dumps({"text": text}))
    body, headers = signed_event(json.dumps(event).encode())
    assert bot.post(body, headers).status_code == 200
    (inbound,) = bot.inbox.stored
    inbound.text.encode()


@pytest.mark.parametrize("timestamp", ["9" * 400, "9" * 5000, "1e5", "-1", ""])
def test_request_with_invalid_timestamp_is_refused(bot: Bot, timestamp: str) -> None:
    body = sealed(encrypt(APP.encrypt_key, plain(a_message())))
    made = hashlib.sha256(f"{timestamp}n{APP.encrypt_key}".encode() + body).hexdigest()
    headers = {"X-Lark-Request-Timestamp": timestamp, "X-Lark-Request-Nonce": "n", "X-Lark-Signature": made}
    assert bot.post(body, headers).status_code == 401


def test_rejections_are_logged_once_a_minute(bot: Bot, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(50):
        age = {"X-Lark-Request-Timestamp": str(number), "X-Lark-Request-Nonce": "n", "X-Lark-Signature": "x"}
        assert bot.post(b"{}", age).status_code == 401
        assert bot.post(b"{}").status_code == 401
    refused = [record.message for record in caplog.records if "refused a request" in record.message]
    assert len(refused) == 2


def test_post_with_mention_only_in_content_is_addressed(control: Control, bot: Bot) -> None:
    line = [
        {"tag": "at", "user_id": "ou_standin_bot_0000000000000000", "user_name": "Clawd"},
        {"tag": "text", "text": " what does "},
        {"tag": "at", "user_id": "ou_bob", "user_name": "Bob"},
        {"tag": "text", "text": " mean?"},
    ]
    content = json.dumps({"zh_cn": {"title": "", "content": [line]}})
    control.post("messages", chat_id="oc_team", msg_type="post", content=content)
    (inbound,) = control.eventually(lambda: bot.inbox.stored)
    assert (inbound.addressed, inbound.text) == (True, "what does @Bob mean?")


async def test_replied_message_is_fetched(control: Control) -> None:
    first = control.post("messages", text="the release is on Friday", user="ou_bob")["message"]

    async def look(ref: str) -> Quote:
        async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
            return await channel(control, http).quoted(ref)

    assert await look(first["message_id"]) == Quote("the release is on Friday")
    picture = control.post("messages", msg_type="image", content='{"image_key": "img_1"}')["message"]
    assert await look(picture["message_id"]) == Quote("", (MessagePart("picture"),))
    control.post("recall", message_id=first["message_id"])
    for gone in (first["message_id"], "om_unknown"):
        with pytest.raises(ChannelError):
            await look(gone)


async def test_waiting_message_has_reaction_until_answered(control: Control) -> None:
    message = control.post("messages", text="how?")["message"]
    inbound = Inbound(
        *("e1", message["message_id"], ConversationKey("feishu", message["chat_id"]), "private", "ou_ada"),
        *("how?", True, message["message_id"], time.time()),
    )

    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        ours = channel(control, http)
        await ours.received(inbound)
        assert await asyncio.to_thread(control.get, "reactions") == [
            {"message_id": message["message_id"], "emoji": "Typing"}
        ]
        for _ in range(2):
            await ours.waiting(inbound, lambda: "3 ahead")
        async with ours.answering(inbound):
            pass
        await asyncio.to_thread(control.eventually, lambda: not control.get("reactions"))
        await ours.close()
    assert [json.loads(sent["body"]["content"])["text"] for sent in control.get("sent")] == ["3 ahead"]


async def test_reactions_are_disabled_without_permission(control: Control) -> None:
    control.post("app", may_react=False)
    message = control.post("messages", text="how?")["message"]
    inbound = Inbound(
        *("e1", message["message_id"], ConversationKey("feishu", message["chat_id"]), "private", "ou_ada"),
        *("how?", True, message["message_id"], time.time()),
    )

    async with httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        ours = channel(control, http)
        for _ in range(3):
            async with ours.answering(inbound):
                await asyncio.sleep(0.1)
        await ours.close()
    assert sum(call["path"].endswith("/reactions") for call in control.get("calls")) == 1
