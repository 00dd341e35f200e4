"""The stand-in as lark-oapi, the platform's own client, sees it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import lark_oapi as lark
import pytest
from lark_oapi.api.im.v1 import (
    CreateMessageReactionRequest,
    CreateMessageReactionRequestBody,
    CreateMessageRequest,
    CreateMessageRequestBody,
    DeleteMessageReactionRequest,
    Emoji,
    GetMessageRequest,
    ReplyMessageRequest,
    ReplyMessageRequestBody,
)
from lark_oapi.core.token import TokenManager

from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.plain_http import NO_TLS
from tests.standins.serve import serving

APP = Credentials()
TEXT = '{"text":"x"}'
TOKEN_PATH = "/open-apis/auth/v3/tenant_access_token/internal"


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(FeishuStandin(APP).app) as base_url:
        yield base_url


@pytest.fixture
def control(served: str) -> Iterator[Control]:
    TokenManager.cache.cache.clear()
    with Control(served) as control:
        control.post("reset")
        yield control


def client(control: Control, secret: str = APP.app_secret) -> Any:
    return lark.Client.builder().app_id(APP.app_id).app_secret(secret).domain(control.base_url).build()


def reply(control: Control, message_id: str, text: str, *, uuid: str = "", kind: str = "text") -> Any:
    content = json.dumps({"text": text}) if kind == "text" else text
    body = ReplyMessageRequestBody.builder().msg_type(kind).content(content).uuid(uuid).build()
    request = ReplyMessageRequest.builder().message_id(message_id).request_body(body).build()
    return client(control).im.v1.message.reply(request)


def asked(control: Control, **more: Any) -> str:
    message_id: str = control.post("messages", text="how?", **more)["message"]["message_id"]
    return message_id


def token(control: Control, **changes: str) -> dict[str, Any]:
    body = {"app_id": APP.app_id, "app_secret": APP.app_secret} | changes
    response = httpx.post(control.base_url + TOKEN_PATH, json=body, verify=NO_TLS)
    assert response.status_code == 200
    answer: dict[str, Any] = response.json()
    return answer


def test_lark_client_replies_to_a_message(control: Control) -> None:
    question = asked(control)
    answer = reply(control, question, "so")
    assert answer.success(), answer.msg
    assert answer.data.parent_id == question
    assert answer.data.sender.id == APP.app_id
    (sent,) = control.get("sent", parent_id=question)
    assert json.loads(sent["body"]["content"]) == {"text": "so"}


def test_lark_client_sends_to_a_user_and_to_a_chat(control: Control) -> None:
    asked(control, user="ou_1")
    chat = control.post("messages", text="x", chat_id="oc_team", mention_bot=True)["message"]["chat_id"]
    for kind, receiver in (("open_id", "ou_1"), ("chat_id", chat)):
        body = (
            CreateMessageRequestBody.builder().receive_id(receiver).msg_type("text").content('{"text":"x"}')
        )
        request = CreateMessageRequest.builder().receive_id_type(kind).request_body(body.build()).build()
        assert client(control).im.v1.message.create(request).success()
    assert len(control.get("sent")) == 2


def test_wrong_app_secret_is_refused_a_token(control: Control) -> None:
    assert token(control, app_secret="wrong")["code"] == 10014
    assert token(control, app_id="cli_other")["code"] == 10014
    assert token(control, app_id="")["code"] == 10003
    with pytest.raises(Exception, match="obtain self tenant access token failed"):
        client(control, "wrong").im.v1.message.reply(
            ReplyMessageRequest.builder()
            .message_id("om_x")
            .request_body(ReplyMessageRequestBody.builder().build())
            .build()
        )


def test_token_is_renewed_in_its_last_half_hour(control: Control) -> None:
    first = token(control)
    assert 7195 <= first["expire"] <= 7200
    control.post("tokens", seconds=5000)
    same = token(control)
    assert same["tenant_access_token"] == first["tenant_access_token"]
    assert 2190 <= same["expire"] <= 2200
    control.post("tokens", seconds=500)
    second = token(control)
    assert second["tenant_access_token"] != first["tenant_access_token"]
    for each in (first, second):
        headers = {"Authorization": f"Bearer {each['tenant_access_token']}"}
        assert (
            httpx.get(f"{control.base_url}/open-apis/bot/v3/info", headers=headers, verify=NO_TLS).json()[
                "code"
            ]
            == 0
        )


@pytest.mark.parametrize(
    ("authorization", "code"),
    [(None, 99991661), ("t-without-scheme", 99991661), ("Bearer t-never-issued", 99991663)],
)
def test_call_without_a_valid_token_is_refused(
    control: Control, authorization: str | None, code: int
) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    response = httpx.get(f"{control.base_url}/open-apis/bot/v3/info", headers=headers, verify=NO_TLS)
    assert (response.status_code, response.json()["code"]) == (400, code)


def test_expired_token_is_refused(control: Control) -> None:
    headers = {"Authorization": f"Bearer {token(control)['tenant_access_token']}"}
    info = f"{control.base_url}/open-apis/bot/v3/info"
    assert httpx.get(info, headers=headers, verify=NO_TLS).json()["bot"]["open_id"].startswith("ou_")
    control.post("tokens", seconds=7201)
    assert httpx.get(info, headers=headers, verify=NO_TLS).json()["code"] == 99991663


def test_same_uuid_sends_a_message_once(control: Control) -> None:
    question = asked(control)
    first, second = (reply(control, question, "so", uuid="u" * 50) for _ in range(2))
    assert first.data.message_id == second.data.message_id
    assert reply(control, question, "so", uuid="other").data.message_id != first.data.message_id
    assert len(control.get("sent")) == 2


def test_uuid_longer_than_50_characters_is_refused(control: Control) -> None:
    answer = reply(control, asked(control), "so", uuid="u" * 51)
    assert answer.code == 99992402
    assert control.get("sent") == []


def card(markdown: str, **more: str) -> str:
    """Return the content of a card with one element."""
    element = {"tag": "markdown", "content": markdown}
    return json.dumps({"schema": "2.0", "body": {"elements": [element]}, **more})


@pytest.mark.parametrize(
    ("kind", "content", "code"),
    [
        ("text", "x" * (150 * 1024 - 12), 0),
        ("text", "x" * (150 * 1024 - 11), 230025),
        ("text", "", 230001),
        ("post", json.dumps({"zh_cn": {"content": [[{"tag": "text", "text": "x" * 30 * 1024}]]}}), 230025),
        ("interactive", "no JSON", 230001),
        ("interactive", card("**a** [b](https://example.com)\n\n" + "| a |\n|---|\n\n" * 4), 0),
        ("interactive", card("| a |\n|---|\n\n" * 5), 230099),
        ("interactive", card("<div>a</div>"), 230099),
        ("interactive", card("![a](https://example.com/a.png)"), 230099),
        ("interactive", card("a", header_color="blue"), 230099),
        ("interactive", card("a" * 30 * 1024), 230025),
        ("image", json.dumps({"image_key": "img"}), 230001),
    ],
)
def test_message_content_is_accepted_or_refused_with_the_code_of_the_platform(
    control: Control, kind: str, content: str, code: int
) -> None:
    assert reply(control, asked(control), content, kind=kind).code == code


def test_reply_to_an_unknown_or_recalled_message_is_refused(control: Control) -> None:
    assert reply(control, "om_unknown", "x").code == 230001
    recalled = asked(control)
    control.post("recall", message_id=recalled)
    assert reply(control, recalled, "x").code == 230011
    for state, code in (("left", 230002), ("unavailable", 230013)):
        message = control.post("messages", text="x", chat_id="oc_team", mention_bot=True)["message"]
        control.post("chats", id="oc_team", type="group", state=state)
        assert reply(control, message["message_id"], "x").code == code


def test_sixth_message_in_a_second_to_one_receiver_is_refused(control: Control) -> None:
    question, other = asked(control), asked(control, user="ou_other")
    assert [reply(control, question, "x").code for _ in range(6)] == [0] * 5 + [230020]
    assert reply(control, other, "x").code == 0


def test_calls_of_the_whole_app_are_rate_limited(control: Control) -> None:
    control.post("limits", second=[2, 30.0])
    headers = {"Authorization": f"Bearer {token(control)['tenant_access_token']}"}
    path = f"{control.base_url}/open-apis/im/v1/messages/{asked(control)}/reply"
    body = {"msg_type": "text", "content": TEXT}
    *_, last = [httpx.post(path, headers=headers, json=body, verify=NO_TLS) for _ in range(3)]
    assert (last.status_code, last.json()["code"]) == (429, 99991400)
    assert 25 <= int(last.headers["x-ogw-ratelimit-reset"]) <= 31


def test_unknown_path_is_answered_404(control: Control) -> None:
    assert httpx.get(f"{control.base_url}/open-apis/im/v9/nothing", verify=NO_TLS).status_code == 404


def test_requested_faults_are_delivered_once(control: Control) -> None:
    question = asked(control)
    control.post("faults", match="/reply", drop="after")
    with pytest.raises(Exception, match=r"IncompleteRead|Connection broken"):
        reply(control, question, "once", uuid="k")
    assert reply(control, question, "once", uuid="k").success()
    assert len(control.get("sent")) == 1


def look_up(control: Control, message_id: str) -> Any:
    return client(control).im.v1.message.get(GetMessageRequest.builder().message_id(message_id).build())


def react(control: Control, message_id: str, emoji: str = "Typing") -> Any:
    kind = Emoji.builder().emoji_type(emoji).build()
    body = CreateMessageReactionRequestBody.builder().reaction_type(kind).build()
    request = CreateMessageReactionRequest.builder().message_id(message_id).request_body(body).build()
    return client(control).im.v1.message_reaction.create(request)


def test_lark_client_looks_up_a_message(control: Control) -> None:
    message_id = asked(control, mentions=[{"open_id": "ou_bob", "name": "Bob"}])
    (item,) = look_up(control, message_id).data.items
    assert (item.message_id, item.msg_type) == (message_id, "text")
    assert json.loads(item.body.content) == {"text": "@_user_1 how?"}
    assert [(each.key, each.id, each.name) for each in item.mentions] == [("@_user_1", "ou_bob", "Bob")]
    answer = reply(control, message_id, "so").data.message_id
    (item,) = look_up(control, answer).data.items
    assert (item.parent_id, json.loads(item.body.content)) == (message_id, {"text": "so"})


def test_lookup_of_a_recalled_deleted_or_unknown_message_is_refused(control: Control) -> None:
    message_id = asked(control)
    control.post("recall", message_id=message_id)
    assert look_up(control, message_id).data.items[0].deleted
    control.post("recall", message_id=message_id, deleted=True)
    assert look_up(control, message_id).code == 231003
    assert reply(control, message_id, "so").code == 231003
    assert look_up(control, "om_unknown").code == 230001


def test_lark_client_adds_and_removes_a_reaction(control: Control) -> None:
    message_id = asked(control)
    first, again = react(control, message_id), react(control, message_id)
    assert first.success()
    assert first.data.reaction_id == again.data.reaction_id
    assert control.get("reactions") == [{"message_id": message_id, "emoji": "Typing"}]
    request = DeleteMessageReactionRequest.builder().message_id(message_id)
    removal = request.reaction_id(first.data.reaction_id).build()
    assert client(control).im.v1.message_reaction.delete(removal).success()
    assert control.get("reactions") == []
    assert not client(control).im.v1.message_reaction.delete(removal).success()


def test_invalid_reaction_is_refused(control: Control) -> None:
    message_id = asked(control)
    assert react(control, message_id, "NO_EMOJI").code == 231001
    assert react(control, "om_unknown").code == 230001
    control.post("app", may_react=False)
    assert react(control, message_id).code == 99991672


def test_reactions_of_the_whole_app_are_rate_limited(control: Control) -> None:
    message_id = asked(control)
    control.post("limits", second=[2, 60.0])
    assert [react(control, message_id).code for _ in range(3)] == [0, 0, 99991400]
