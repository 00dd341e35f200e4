"""Cards as entities (CardKit): created, sent once, changed by operations with increasing numbers.

After the pages "Create card entity", "Streaming update text", "Update card", "Update card config" and
"Streaming updates": an app may operate a card ten times a second, and call each endpoint 50 times a second
and 1000 times a minute; the streaming mode ends ten minutes after it began; a card is sent once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.standins.feishu.cards import check_card
from tests.standins.feishu.errors import ApiError
from tests.standins.limits import Window

STREAMING_SECONDS = 600.0
LARGEST = 30 * 1024
LARGEST_NUMBER = 2**31 - 1
CLOSED = 300309


@dataclass
class Card:
    """A card. `streaming_until` is 0 if its streaming mode is off; `shown` has every text it has had."""

    id: str
    content: dict[str, Any]
    sequence: int = 0
    streaming_until: float = 0.0
    message_id: str = ""
    shown: list[str] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    @property
    def text(self) -> str:
        """Return the content of its elements."""
        return "\n".join(str(each.get("content", "")) for each in self.content["body"]["elements"])

    def view(self, now: float) -> dict[str, Any]:
        """Return what a user sees."""
        return {
            "card_id": self.id,
            "message_id": self.message_id,
            "text": self.text,
            "streaming": now < self.streaming_until,
            "shown": self.shown,
            "sequence": self.sequence,
        }


class CardEntities:
    """The cards of the app."""

    def __init__(self, clock: Callable[[], float], spend: Callable[[str], None]) -> None:
        self._clock = clock
        self._spend = spend
        self._operations = Window(10, 1.0)
        self.allowed = True
        self.cards: dict[str, Card] = {}

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Answer `POST /cardkit/v1/cards`."""
        self._check_allowed("create card")
        if body.get("type") != "card_json":
            raise ApiError(10002, "stand-in: only cards of type card_json are modelled")
        content = _content(body.get("data"))
        card = Card(f"{7371713483664500000 + len(self.cards)}", content)
        self._set(card, content)
        self.cards[card.id] = card
        return {"code": 0, "msg": "success", "data": {"card_id": card.id}}

    def write(self, card_id: str, element_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer `PUT /cardkit/v1/cards/:card_id/elements/:element_id/content`."""
        card = self._operated("write card", card_id, body)
        text = body.get("content")
        if not isinstance(text, str) or not 1 <= len(text) <= 100_000:
            raise ApiError(99992402, "field validation failed")
        if self._clock() >= card.streaming_until:
            raise ApiError(CLOSED, "stand-in: streaming mode is closed")
        elements = card.content["body"]["elements"]
        if not any(each.get("element_id") == element_id for each in elements):
            raise ApiError(300313, "stand-in: no such element")
        changed = [
            each | {"content": text} if each.get("element_id") == element_id else each for each in elements
        ]
        self._set(card, _checked(card.content | {"body": {"elements": changed}}), streams=True)
        return {"code": 0, "msg": "success", "data": {}}

    def replace(self, card_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer `PUT /cardkit/v1/cards/:card_id`."""
        card = self._operated("replace card", card_id, body)
        given = body.get("card")
        if not isinstance(given, dict) or given.get("type") != "card_json":
            raise ApiError(10002, "stand-in: only cards of type card_json are modelled")
        self._set(card, _content(given.get("data")))
        return {"code": 0, "msg": "success", "data": {}}

    def configure(self, card_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """Answer `PATCH /cardkit/v1/cards/:card_id/settings`."""
        card = self._operated("configure card", card_id, body)
        settings = _parsed(body.get("settings"))
        config = card.content.get("config", {}) | settings.get("config", {})
        self._set(card, _checked(card.content | {"config": config}))
        return {"code": 0, "msg": "success", "data": {}}

    def send(self, card_id: object, message_id: str) -> None:
        """Show a card in a message, once."""
        card = self.cards.get(str(card_id))
        if card is None:
            raise ApiError(
                230099, "Failed to create card content, ext=ErrCode: 200740; ErrMsg: no such card; "
            )
        if card.message_id:
            raise ApiError(230099, "Failed to create card content, ext=stand-in: the card was sent already; ")
        card.message_id = message_id

    def _check_allowed(self, endpoint: str) -> None:
        if not self.allowed:
            raise ApiError(
                99991672, "Access denied. One of the following scopes is required: cardkit:card:write"
            )
        self._spend(endpoint)

    def _operated(self, endpoint: str, card_id: str, body: dict[str, Any]) -> Card:
        """Return the card of an operation, which is counted."""
        self._check_allowed(endpoint)
        card = self.cards.get(card_id)
        if card is None:
            raise ApiError(200740, "The card entity does not exist")
        now = self._clock()
        if self._operations.wait(card_id, now) > 0:
            raise ApiError(99991400, "request trigger frequency limit", status=429)
        self._operations.add(card_id, now)
        number = body.get("sequence")
        if not isinstance(number, int) or not 1 <= number <= LARGEST_NUMBER:
            raise ApiError(99992402, "field validation failed")
        if number <= card.sequence:
            card.refused.append(number)
            raise ApiError(300317, "The sequence number for operating on the card did not increment")
        card.sequence = number
        return card

    def _set(self, card: Card, content: dict[str, Any], *, streams: bool = False) -> None:
        card.content = content
        on = content.get("config", {}).get("streaming_mode") is True
        if not streams:
            card.streaming_until = self._clock() + STREAMING_SECONDS if on else 0.0
        card.shown.append(card.text)


def _content(data: object) -> dict[str, Any]:
    return _checked(_parsed(data))


def _parsed(data: object) -> dict[str, Any]:
    try:
        parsed = json.loads(data) if isinstance(data, str) else None
    except ValueError:
        parsed = None
    if not isinstance(parsed, dict):
        raise ApiError(200220, "Failed to generate card content")
    return parsed


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    if len(json.dumps(content, ensure_ascii=False).encode()) > LARGEST:
        raise ApiError(200860, "Card content exceeds limit.")
    check_card(content)
    return content


def entity_in(msg_type: str, content: str) -> str | None:
    """Return the id of the card that a message shows; None if it shows none, or contains its card."""
    try:
        parsed = json.loads(content) if msg_type == "interactive" else None
    except ValueError:
        return None
    if not isinstance(parsed, dict) or parsed.get("type") != "card":
        return None
    data = parsed.get("data")
    return str(data.get("card_id", "")) if isinstance(data, dict) else ""
