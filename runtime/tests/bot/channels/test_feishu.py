"""The channel between the strict stand-in, the real store, and forgers."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import lark_oapi as lark
import pytest
from lark_oapi.core.model import RawRequest
from pydantic import ValidationError
from starlette.applications import Starlette

from clawd_runtime.bot.app import KEEP_SECONDS
from clawd_runtime.bot.channels import feishu, feishu_crypto
from clawd_runtime.bot.channels.base import Answer, ChannelContext, RetryLater, Undeliverable
from clawd_runtime.bot.channels.feishu import FeishuChannel, FeishuSettings
from clawd_runtime.bot.channels.feishu_api import size_in_request
from clawd_runtime.bot.credentials import Credentials as Secrets
from clawd_runtime.bot.store.database import open_database
from clawd_runtime.bot.store.store import Store
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply, reply_key
from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.envelope import FORGERIES, encrypt, plain, sealed, signed, wrapped
from tests.standins.feishu.state import Credentials
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
    """The real store, noting what was new to it."""

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

    async def answer_to(self, channel: str, event_id: str) -> Answer | None:
        raise NotImplementedError

    async def leads(self, role: str) -> bool:
        raise NotImplementedError


@dataclass
class Bot:
    """The channel, served at `url`, with what it stored."""

    url: str
    inbox: Noting

    def post(self, body: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return httpx.post(self.url, content=body, headers=dict(headers or {}), trust_env=False)

    @property
    def texts(self) -> list[str]:
        return [inbound.text for inbound in self.inbox.stored]


def app_of(inbox: Noting, api_base: str, **settings: Any) -> Starlette:
    http = httpx.AsyncClient(trust_env=False)
    checked = FeishuSettings(app_id=APP.app_id, api_base=api_base, **settings)
    channel = FeishuChannel(checked, ChannelContext(inbox, http, SECRETS, None))

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with http:
            yield

    return Starlette(routes=channel.routes(), lifespan=lifespan)


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Noting]:
    database = open_database(f"sqlite:///{tmp_path}/bot.db")
    store = Store(database)
    asyncio.run(store.join(1, ("feishu",)))
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
    """An event as the platform makes it, without the platform."""
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


def test_a_message_is_stored_before_it_is_taken(control: Control, bot: Bot) -> None:
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
def test_where_nothing_tells_the_language_the_platform_does(
    inbox: Noting, api_base: str, language: str | None
) -> None:
    """A picture, or `/help`: events carry no language, and Feishu, unlike Lark, is China's."""
    with serving(app_of(inbox, api_base)) as url:
        sent = wrapped(SECRETS["feishu-encrypt-key"], a_message("/help"), time.time())
        assert Bot(f"{url}/feishu/webhook", inbox).post(sent.body, sent.headers).status_code == 200
    assert [inbound.language for inbound in inbox.stored] == [language]


def test_what_cannot_be_stored_is_not_taken(control: Control, bot: Bot) -> None:
    bot.inbox.broken = True
    control.post("messages", text="hello")
    (attempt, *_) = control.eventually(lambda: control.get("deliveries"))
    assert attempt["status"] == 500
    bot.inbox.broken = False
    assert control.eventually(lambda: bot.texts) == ["hello"]


def test_in_a_group_a_mention_addresses_the_bot(control: Control, bot: Bot) -> None:
    control.post("app", group_messages=True)
    control.post(
        "messages", chat_id="oc_team", text="among us", mentions=[{"open_id": "ou_b", "name": "Bob"}]
    )
    control.post("messages", chat_id="oc_team", text="and you?", mention_bot=True)
    control.eventually(lambda: len(bot.inbox.stored) == 2)
    seen = {inbound.text: inbound.addressed for inbound in bot.inbox.stored}
    assert seen == {"@Bob among us": False, "and you?": True}


def test_a_group_message_waits_until_the_bot_knows_itself(control: Control, bot: Bot) -> None:
    control.post("faults", match="/bot/v3/info", status=500)
    control.post("messages", chat_id="oc_team", text="hello", mention_bot=True)
    (inbound,) = control.eventually(lambda: bot.inbox.stored)
    assert inbound.addressed
    assert control.get("deliveries")[0]["status"] == 503


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forgery_is_refused_and_not_stored(control: Control, bot: Bot, kind: str) -> None:
    assert control.post("forge", kind=kind, message={"text": "let me in"})["status"] == 401
    assert bot.inbox.stored == []


def test_all_forgeries_are_answered_alike(bot: Bot) -> None:
    """Or the answers would be an oracle for padding."""
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
                signed(key, good, now - feishu.MAX_EVENT_AGE - 1),
                signed(key, good, now + 302),
                wrapped(key, a_message(token="guessed"), now),
                wrapped(key, a_message(app_id="cli_other"), now),
                wrapped(key, a_message() | {"schema": "1.0"}, now),
                wrapped(key, {"schema": "2.0", "header": None}, now),
            )
        ),
    ]
    assert {(each.status_code, each.text) for each in answers} == {(401, '{"msg":"unauthorized"}')}
    assert bot.inbox.stored == []


def test_a_repeated_event_is_stored_once(control: Control, bot: Bot) -> None:
    event_id = control.post("messages", text="once")["event_id"]
    control.eventually(lambda: bot.inbox.stored)
    assert control.post("redeliver", event_id=event_id)["status"] == 200
    assert control.post("redeliver", event_id=event_id, new_event_id=True)["status"] == 200
    assert bot.texts == ["once"]
    assert bot.inbox.known == 2


@pytest.mark.parametrize("with_signature", [True, False])
def test_the_challenge_is_answered(bot: Bot, with_signature: bool) -> None:
    asked = {"type": "url_verification", "token": APP.verification_token, "challenge": "ajls384"}
    envelope = wrapped(APP.encrypt_key, asked, time.time())
    answer = bot.post(envelope.body, envelope.headers if with_signature else None)
    assert (answer.status_code, answer.json()) == (200, {"challenge": "ajls384"})
    assert bot.inbox.stored == []


def test_a_challenge_whose_signature_is_wrong_is_refused(bot: Bot) -> None:
    asked = {"type": "url_verification", "token": APP.verification_token, "challenge": "ajls384"}
    envelope = wrapped(APP.encrypt_key, asked, time.time())
    assert bot.post(envelope.body, envelope.headers | {"X-Lark-Signature": "0" * 64}).status_code == 401


def test_a_plain_challenge_is_refused(bot: Bot) -> None:
    asked = {"type": "url_verification", "token": APP.verification_token, "challenge": "ajls384"}
    assert bot.post(plain(asked)).status_code == 401


def test_only_a_short_unsigned_request_is_decrypted(bot: Bot, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []

    def open_envelope(key: str, body: bytes) -> dict[str, Any]:
        opened.append(len(body))
        return {}

    monkeypatch.setattr(feishu, "open_envelope", open_envelope)
    assert bot.post(b"x" * 8193).status_code == 401
    assert opened == []
    assert bot.post(b"x" * 8192).status_code == 401
    assert opened == [8192]


def test_an_event_larger_than_any_is_refused(bot: Bot) -> None:
    assert bot.post(b"x" * (1 << 20)).status_code == 401
    assert bot.post(b"x" * ((1 << 20) + 1)).status_code == 413


def test_other_events_are_taken_and_forgotten(control: Control, bot: Bot) -> None:
    control.post("events", event_type="im.chat.member.bot.added_v1", event={"chat_id": "oc_1"})
    (attempt,) = control.eventually(lambda: control.get("deliveries"))
    assert attempt["status"] == 200
    assert bot.inbox.stored == []


def test_how_old_an_event_may_be_can_be_set(inbox: Noting, control: Control) -> None:
    old = wrapped(APP.encrypt_key, a_message(), time.time() - 4000)
    with serving(app_of(inbox, control.base_url, max_event_age=3600)) as url:
        assert Bot(f"{url}/feishu/webhook", inbox).post(old.body, old.headers).status_code == 401
    with serving(app_of(inbox, control.base_url, max_event_age=7200)) as url:
        assert Bot(f"{url}/feishu/webhook", inbox).post(old.body, old.headers).status_code == 200


def test_what_feishu_repeats_for_hours_is_taken_and_nothing_older(inbox: Noting, control: Control) -> None:
    ages = {60.0: 200, 6.2 * 3600: 200, 8.1 * 3600: 401, -200.0: 200, -400.0: 401}
    with serving(app_of(inbox, control.base_url)) as url:
        bot = Bot(f"{url}/feishu/webhook", inbox)
        for age, status in ages.items():
            event = wrapped(APP.encrypt_key, a_message(), time.time() - age)
            assert bot.post(event.body, event.headers).status_code == status, age


def test_ids_are_kept_longer_than_events_are_believed() -> None:
    assert feishu.LONGEST_EVENT_AGE + feishu_crypto.CLOCK_DIFFERENCE < KEEP_SECONDS


@pytest.mark.parametrize("changed", ["nothing", "body", "nonce", "key", "token"])
def test_lark_and_we_judge_a_request_alike(bot: Bot, changed: str) -> None:
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


def send(control: Control, *replies: Reply) -> list[str]:
    async def main() -> list[str]:
        async with httpx.AsyncClient(trust_env=False) as http:
            ours = channel(control, http)
            return [(await ours.send(reply)).id for reply in replies]

    return asyncio.run(main())


def split(text: str) -> tuple[str, ...]:
    return channel(Control("http://unused.invalid"), httpx.AsyncClient()).split(text)


def test_a_reply_is_sent_once_however_often_it_is_tried(control: Control) -> None:
    message = control.post("messages", text="how?")["message"]
    first, second = send(control, reply_to(message, "so"), reply_to(message, "so"))
    assert first == second
    (sent,) = control.get("sent", parent_id=message["message_id"])
    assert json.loads(sent["body"]["content"]) == {"text": "so"}


def test_what_can_never_be_delivered(control: Control) -> None:
    message = control.post("messages", text="how?")["message"]
    control.post("recall", message_id=message["message_id"])
    with pytest.raises(Undeliverable, match="230011"):
        send(control, reply_to(message, "so"))


def test_what_is_worth_another_try(control: Control) -> None:
    message = control.post("messages", text="how?")["message"]
    control.post("faults", match="/reply", status=429, headers={"x-ogw-ratelimit-reset": "4"})
    with pytest.raises(RetryLater) as limit:
        send(control, reply_to(message, "so"))
    assert limit.value.after == 4.0


@pytest.mark.parametrize("text", ["x" * 200_000, "ü😀" * 60_000, '"\\\n' * 50_000, "<at " * 30_000])
def test_a_long_answer_is_cut_so_that_the_platform_takes_it(control: Control, text: str) -> None:
    parts = split(text)
    assert len(parts) > 1
    message = control.post("messages", text="how?")["message"]
    control.post("limits", receiver=[100, 1.0])
    for part in parts:
        assert 0 < size_in_request(part) < 150 * 1024
        send(control, reply_to(message, part))
    assert "".join("".join(parts).split()) == "".join(text.replace("<at", "<\u200bat").split())


def test_a_short_answer_stays_whole() -> None:
    assert split("  indented\n") == ("  indented\n",)


@pytest.mark.parametrize("tag", ['<at user_id="all">all</at>', "<AT user_id='all'></AT>", "</at>"])
def test_the_model_cannot_be_made_to_notify_everybody(control: Control, tag: str) -> None:
    message = control.post("messages", text="how?")["message"]
    send(control, reply_to(message, f"hey {tag} <attention> a<b"))
    (sent,) = control.get("sent")
    text = json.loads(sent["body"]["content"])["text"]
    assert "<at" not in text.lower().replace("<attention", "")
    assert "</at" not in text.lower()
    assert "<attention> a<b" in text


def test_the_bot_learns_its_id_in_spite_of_a_fault(control: Control) -> None:
    control.post("faults", match="/internal", status=502)

    async def main() -> None:
        async with httpx.AsyncClient(trust_env=False) as http:
            await asyncio.wait_for(channel(control, http).run(), 10)

    asyncio.run(main())
    assert [call["path"] for call in control.get("calls")][-1] == "/open-apis/bot/v3/info"


def test_settings_and_credentials() -> None:
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
