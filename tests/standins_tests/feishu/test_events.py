"""Events as lark-oapi's dispatcher, the platform's own receiver, takes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import lark_oapi as lark
import pytest
from lark_oapi.core.model import RawRequest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.envelope import FORGERIES
from tests.standins.feishu.state import Credentials
from tests.standins.outbound import Reach
from tests.standins.serve import serving
from tests.standins_tests.conftest import Certificate
from tests.standins_tests.receiver import Receiver

APP = Credentials()


class LarkReceiver:
    """A webhook made of lark-oapi's dispatcher."""

    def __init__(self, encrypt_key: str = APP.encrypt_key) -> None:
        self.events: list[Any] = []
        self._dispatcher = (
            lark.EventDispatcherHandler.builder(encrypt_key, APP.verification_token)
            .register_p2_im_message_receive_v1(self.events.append)
            .build()
        )
        self.app = Starlette(routes=[Route("/hook", self._hook, methods=["POST"])])

    async def _hook(self, request: Request) -> Response:
        raw = RawRequest()
        raw.uri, raw.body = request.url.path, await request.body()
        raw.headers = {name.title(): value for name, value in request.headers.items()}
        answer = self._dispatcher.do(raw)
        return Response(answer.content, answer.status_code)


@pytest.fixture
def control() -> Iterator[Control]:
    with serving(FeishuStandin(APP, pace=0.01).app) as url, Control(url) as control:
        yield control


@pytest.fixture
def theirs(control: Control) -> Iterator[LarkReceiver]:
    receiver = LarkReceiver()
    with serving(receiver.app) as url:
        control.post("webhook", url=f"{url}/hook")
        yield receiver


def test_lark_dispatcher_accepts_challenge_and_event(control: Control, theirs: LarkReceiver) -> None:
    given = control.post("messages", text="hello", user="ou_ada")
    (event,) = control.eventually(lambda: theirs.events)
    assert event.header.event_id == given["event_id"]
    assert event.event.sender.sender_id.open_id == "ou_ada"
    assert event.event.message.message_id == given["message"]["message_id"]
    assert event.event.message.chat_type == "p2p"
    assert json.loads(event.event.message.content) == {"text": "hello"}


def test_lark_dispatcher_accepts_a_group_message_with_mentions(
    control: Control, theirs: LarkReceiver
) -> None:
    control.post(
        "messages",
        chat_id="oc_team",
        text="@_user_1 ask @_user_2",
        mention_bot=True,
        mentions=[{"open_id": "ou_bob", "name": "Bob"}],
        thread_id="omt_1",
    )
    (event,) = control.eventually(lambda: theirs.events)
    assert [(each.key, each.name) for each in event.event.message.mentions] == [
        ("@_user_1", "Clawd"),
        ("@_user_2", "Bob"),
    ]
    assert event.event.message.thread_id == "omt_1"


def test_group_messages_without_mention_are_delivered_only_with_the_permission(
    control: Control, theirs: LarkReceiver
) -> None:
    assert control.post("messages", chat_id="oc_team", text="all")["event_id"] is None
    control.post("app", group_messages=True)
    assert control.post("messages", chat_id="oc_team", text="all")["event_id"] is not None


@pytest.mark.parametrize("kind", [kind for kind in FORGERIES if kind not in {"stale", "plain signed"}])
def test_lark_dispatcher_refuses_forged_events(control: Control, theirs: LarkReceiver, kind: str) -> None:
    """Not those that lark itself lets pass: it knows no stale timestamp and takes signed plain bodies."""
    assert control.post("forge", kind=kind, message={"text": "let me in"})["status"] == 500
    assert theirs.events == []


def test_events_are_delivered_unencrypted_without_an_encrypt_key() -> None:
    receiver = LarkReceiver(encrypt_key="")
    standin = FeishuStandin(Credentials(encrypt_key="")).app
    with serving(standin) as url, Control(url) as control, serving(receiver.app) as hook:
        control.post("webhook", url=f"{hook}/hook")
        control.post("messages", text="hello")
        assert control.eventually(lambda: receiver.events)


def test_webhook_that_fails_the_challenge_is_refused(control: Control) -> None:
    receiver = Receiver(answers=[(200, {}, b'{"challenge":"guessed"}')])
    with serving(receiver.app) as url:
        with pytest.raises(RuntimeError, match="not the challenge"):
            control.post("webhook", url=f"{url}/hook")
        receiver.delay = 1.5
        with pytest.raises(RuntimeError, match="no answer within 1 s"):
            control.post("webhook", url=f"{url}/hook")


def test_event_that_was_answered_with_an_error_is_delivered_again(
    control: Control, theirs: LarkReceiver
) -> None:
    with serving(_Fickle(theirs).app) as url:
        control.post("webhook", url=f"{url}/hook")
        given = control.post("messages", text="again")
        control.eventually(lambda: len(control.get("deliveries")) == 2)
    first, second = control.get("deliveries")
    assert (first["status"], second["error"]) == (500, "")
    assert first["event_id"] == second["event_id"] == given["event_id"]
    assert second["at"] - first["at"] >= 0.15


class _Fickle:
    """Passes all but the second request (the first event after the challenge) on."""

    def __init__(self, theirs: LarkReceiver) -> None:
        self._theirs = theirs
        self._seen = 0
        self.app = Starlette(routes=[Route("/hook", self._hook, methods=["POST"])])

    async def _hook(self, request: Request) -> Response:
        self._seen += 1
        return Response(status_code=500) if self._seen == 2 else await self._theirs._hook(request)


def test_redelivered_event_has_the_same_or_a_new_event_id(control: Control, theirs: LarkReceiver) -> None:
    event_id = control.post("messages", text="once")["event_id"]
    control.eventually(lambda: theirs.events)
    control.post("redeliver", event_id=event_id)
    control.post("redeliver", event_id=event_id, new_event_id=True)
    ids = [event.header.event_id for event in theirs.events]
    assert ids[0] == ids[1] == event_id != ids[2]
    assert len({event.event.message.message_id for event in theirs.events}) == 1


def test_events_are_delivered_over_tls_with_the_host_name(certificate: Certificate) -> None:
    receiver = LarkReceiver()
    standin = FeishuStandin(APP, Reach({"bot.test": "127.0.0.1"}, certificate.chain))
    with (
        serving(receiver.app, tls=(certificate.chain, certificate.key)) as hook,
        serving(standin.app) as url,
        Control(url) as control,
    ):
        control.post("webhook", url=f"https://bot.test:{urlsplit(hook).port}/hook")
        control.post("messages", text="hello")
        assert control.eventually(lambda: receiver.events)
