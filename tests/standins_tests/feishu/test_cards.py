"""Card entities as lark-oapi, the platform's own client, operates them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import lark_oapi as lark
import pytest
from lark_oapi.api.cardkit.v1 import (
    Card,
    ContentCardElementRequest,
    ContentCardElementRequestBody,
    CreateCardRequest,
    CreateCardRequestBody,
    SettingsCardRequest,
    SettingsCardRequestBody,
    UpdateCardRequest,
    UpdateCardRequestBody,
)
from lark_oapi.api.im.v1 import (
    DeleteMessageRequest,
    ReplyMessageRequest,
    ReplyMessageRequestBody,
)
from lark_oapi.core.token import TokenManager

from tests.standins.control import Control
from tests.standins.feishu.app import FeishuStandin
from tests.standins.feishu.state import Credentials
from tests.standins.serve import serving

APP = Credentials()
STREAMING_CLOSED, NUMBER_TOO_LOW, TOO_LARGE, ALREADY_SENT = 300309, 300317, 200860, 230099


@pytest.fixture
def control() -> Iterator[Control]:
    TokenManager.cache.cache.clear()
    with serving(FeishuStandin(APP).app) as url, Control(url) as control:
        yield control


class Cards:
    """The operations, each with what the platform answers."""

    def __init__(self, control: Control) -> None:
        builder = lark.Client.builder().app_id(APP.app_id).app_secret(APP.app_secret)
        self._client: Any = builder.domain(control.base_url).build()

    def create(self, text: str = "one") -> Any:
        body = CreateCardRequestBody.builder().type("card_json").data(content(text)).build()
        return self._client.cardkit.v1.card.create(CreateCardRequest.builder().request_body(body).build())

    def write(self, card_id: str, text: str, number: int) -> Any:
        body = ContentCardElementRequestBody.builder().content(text).sequence(number).build()
        request = ContentCardElementRequest.builder().card_id(card_id).element_id("answer")
        return self._client.cardkit.v1.card_element.content(request.request_body(body).build())

    def replace(self, card_id: str, text: str, number: int) -> Any:
        card = Card.builder().type("card_json").data(content(text, streaming=False)).build()
        body = UpdateCardRequestBody.builder().card(card).sequence(number).build()
        request = UpdateCardRequest.builder().card_id(card_id).request_body(body).build()
        return self._client.cardkit.v1.card.update(request)

    def stop(self, card_id: str, number: int) -> Any:
        settings = json.dumps({"config": {"streaming_mode": False}})
        body = SettingsCardRequestBody.builder().settings(settings).sequence(number).build()
        request = SettingsCardRequest.builder().card_id(card_id).request_body(body).build()
        return self._client.cardkit.v1.card.settings(request)

    def reply(self, message_id: str, card_id: str) -> Any:
        shown = json.dumps({"type": "card", "data": {"card_id": card_id}})
        body = ReplyMessageRequestBody.builder().msg_type("interactive").content(shown).build()
        request = ReplyMessageRequest.builder().message_id(message_id).request_body(body).build()
        return self._client.im.v1.message.reply(request)

    def recall(self, message_id: str) -> Any:
        request = DeleteMessageRequest.builder().message_id(message_id).build()
        return self._client.im.v1.message.delete(request)


def content(text: str, *, streaming: bool = True) -> str:
    element = {"tag": "markdown", "element_id": "answer", "content": text}
    config = {"update_multi": True, "streaming_mode": streaming}
    return json.dumps({"schema": "2.0", "config": config, "body": {"elements": [element]}})


def test_card_streams_until_it_is_stopped(control: Control) -> None:
    cards, asked = Cards(control), control.post("messages", text="hi")["message"]["message_id"]
    card = cards.create().data.card_id
    assert control.get("sent") == []
    assert cards.reply(asked, card).success()
    assert cards.write(card, "one two", 1).success()
    assert cards.write(card, "one", 1).code == NUMBER_TOO_LOW
    assert control.get("cards")[0]["streaming"]
    assert cards.stop(card, 2).success()
    assert cards.write(card, "one two three", 3).code == STREAMING_CLOSED
    assert cards.replace(card, "one two three", 4).success()
    assert control.get("cards")[0] | {"shown": [], "message_id": ""} == {
        "card_id": card,
        "message_id": "",
        "text": "one two three",
        "streaming": False,
        "shown": [],
        "sequence": 4,
    }


def test_card_is_sent_once_and_can_be_recalled(control: Control) -> None:
    cards, asked = Cards(control), control.post("messages", text="hi")["message"]["message_id"]
    card = cards.create().data.card_id
    sent = cards.reply(asked, card)
    assert cards.reply(asked, card).code == ALREADY_SENT
    assert cards.recall(sent.data.message_id).success()
    assert not cards.recall(sent.data.message_id).success()
    assert not cards.recall(asked).success()


def test_limits_of_a_card(control: Control) -> None:
    cards = Cards(control)
    card = cards.create().data.card_id
    assert cards.write(card, "x" * 40_000, 1).code == TOO_LARGE
    assert cards.write(card, "\n\n".join(["| a |\n|---|\n| 1 |"] * 6), 2).code == 230099
    codes = [cards.write(card, f"{number}", number).code for number in range(3, 20)]
    assert 99991400 in codes
