"""Cards that show a growing answer (CardKit).

A card is created, which shows nothing yet, then sent as a message, then its one element gets the full text
again and again, and at last the whole card is replaced by that of the reply. Every operation has a number
higher than those before; the platform refuses others, so a delayed request cannot undo a later one. The
platform itself ends the streaming mode of a card after ten minutes.

Source: https://open.feishu.cn/document/cardkit-v1/streaming-updates-openapi-overview (permission
`cardkit:card:write`).
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from clawd_runtime.bot.channels.feishu.api import FeishuApi, FeishuRefusal, Outgoing
from clawd_runtime.bot.channels.feishu.cards import beginning, literal
from clawd_runtime.bot.foreign_json import Foreign, ForeignJsonError, Identifier, read_as
from clawd_runtime.bot.values import Piece
from clawd_runtime.errors import ChannelError

log = logging.getLogger(__name__)

ELEMENT = "answer"
CARDS = "/cardkit/v1/cards"


class CreatedCard(Foreign):
    """A created card."""

    card_id: Identifier


@dataclass(frozen=True, slots=True)
class CardRef:
    """A card, and the message that shows it (empty until it is sent)."""

    card: str
    message: str = ""

    def __str__(self) -> str:
        return f"{self.card} {self.message}".rstrip()

    @classmethod
    def read(cls, ref: str) -> CardRef:
        """Return the card of a stored reference."""
        card, _, message = ref.partition(" ")
        return cls(card, message)

    @property
    def content(self) -> Outgoing:
        """Return the message that shows the card."""
        return Outgoing("interactive", _json({"type": "card", "data": {"card_id": self.card}}))

    @property
    def path(self) -> str:
        """Return the path of the card in the API."""
        return f"{CARDS}/{quote(self.card, safe='')}"


class GrowingCards:
    """The operations on cards. All raise like `FeishuApi.call`."""

    def __init__(self, api: FeishuApi) -> None:
        self._api = api

    async def create(self, piece: Piece) -> CardRef:
        """Create a card that shows a piece once it is sent."""
        data = {
            "schema": "2.0",
            "config": {"update_multi": True, "streaming_mode": True},
            "body": {"elements": [{"tag": "markdown", "element_id": ELEMENT, "content": _text_of(piece)}]},
        }
        answer = await self._api.call("POST", CARDS, {"type": "card_json", "data": _json(data)})
        try:
            return CardRef(read_as(CreatedCard, answer.get("data")).card_id)
        except ForeignJsonError:
            raise ChannelError("Feishu cards: no card_id in the response") from None

    async def show(self, ref: CardRef, number: int, piece: Piece) -> None:
        """Show a piece in a card that was sent."""
        body = {"content": _text_of(piece), "sequence": number}
        await self._api.call("PUT", f"{ref.path}/elements/{ELEMENT}/content", body)

    async def complete(self, ref: CardRef, number: int, content: str) -> None:
        """Replace a card by one with this content, and end its streaming mode."""
        card = {"type": "card_json", "data": content}
        await self._api.call("PUT", ref.path, {"card": card, "sequence": number})
        try:
            await self.stop(ref, number + 1)
        except FeishuRefusal as refusal:
            log.info("%s", refusal)  # its content is complete, and the new one has no streaming mode

    async def stop(self, ref: CardRef, number: int) -> None:
        """End the streaming mode of a card."""
        settings = _json({"config": {"streaming_mode": False}})
        await self._api.call("PATCH", f"{ref.path}/settings", {"settings": settings, "sequence": number})

    async def remove(self, ref: CardRef, number: int) -> None:
        """Take back the message with a card; if that is refused, end at least its streaming mode."""
        if not ref.message:
            return
        try:
            await self._api.call("DELETE", f"/im/v1/messages/{quote(ref.message, safe='')}")
        except FeishuRefusal as refusal:
            log.info("%s", refusal)
            try:
                await self.stop(ref, number)
            except FeishuRefusal as further:
                log.info("%s", further)


def _text_of(piece: Piece) -> str:
    return literal(piece.text) if piece.is_notice else beginning(piece.text)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
