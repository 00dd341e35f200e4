"""Delivery of messages to Feishu: texts, cards, and cards in which an answer has been growing."""

from __future__ import annotations

import logging
import re

from clawd_runtime.bot.channels.base import DeliveryError, StreamGone, Undeliverable
from clawd_runtime.bot.channels.feishu.api import (
    FeishuApi,
    FeishuRefusal,
    OperatorNeeded,
    Outgoing,
    text_message,
)
from clawd_runtime.bot.channels.feishu.cards import plain_card
from clawd_runtime.bot.channels.feishu.growing_cards import CardRef, GrowingCards
from clawd_runtime.bot.values import ConversationKey, Inbound, Reply, SentRef, Shown, reply_key

log = logging.getLogger(__name__)

# After so many attempts whose outcome is unknown, a card is sent as text.
CARD_ATTEMPTS = 3
# After so many attempts to complete a growing card whose outcome is unknown, it is removed.
COMPLETE_ATTEMPTS = 6
# A number that no part of an answer has.
CARD_PART = -2
MENTION_TAG = re.compile(r"<(?=/?at\b)", re.IGNORECASE)


class FeishuDelivery:
    """Sends messages of the bot."""

    def __init__(self, api: FeishuApi, cards: GrowingCards) -> None:
        self._api = api
        self._cards = cards

    async def send(self, reply: Reply) -> SentRef:
        """See `Channel.send`. If a card is refused, or its fate is often unknown, send it as text.

        Everything is sent with the same key, so that one of them arrives, once. An answer that has been
        growing in a card is completed there.
        """
        if reply.shown is not None:
            return await self._complete(reply, reply.shown)
        text = text_message(without_mentions(reply.text))
        try:
            if reply.formatting and reply.attempt <= CARD_ATTEMPTS:
                try:
                    return await self._send(reply, Outgoing("interactive", reply.formatting))
                except FeishuRefusal as refusal:
                    log.warning("%s; sending text instead of a card", refusal)
            return await self._send(reply, text)
        except FeishuRefusal as refusal:
            raise Undeliverable(str(refusal)) from None

    async def opened(self, message: Inbound | Reply, ref: CardRef) -> CardRef:
        """Return a card with the message that shows it, which is sent in reply to `message` if it was not.

        The key of that message differs from the reply's, which may have to be sent without the card. Raise
        like `FeishuApi.call`.
        """
        if ref.message:
            return ref
        place = message.conversation
        key = reply_key(place.channel, message.event_id, CARD_PART)
        return CardRef(ref.card, await self._send_to(place, message.reply_to, ref.content, key))

    async def _complete(self, reply: Reply, shown: Shown) -> SentRef:
        """Complete the card in which an answer was shown.

        If the platform refuses that, or fails again and again, the card is removed first, so that the answer
        is shown once.
        """
        ref, number = CardRef.read(shown.ref), shown.sequence
        if reply.attempt >= COMPLETE_ATTEMPTS:
            # Not after another attempt: it could succeed in a card that was removed.
            await self._cards.remove(ref, number)
            raise StreamGone("Feishu: the card cannot be completed")
        try:
            ref = await self.opened(reply, ref)
            content = reply.formatting or plain_card(without_mentions(reply.text))
            if content is None:
                raise FeishuRefusal("cards", 0, "text too large for a card")
            await self._cards.complete(ref, number, content)
        except (FeishuRefusal, OperatorNeeded) as refusal:
            try:
                await self._cards.remove(ref, number + 2)
            except DeliveryError as fault:
                if reply.attempt > 1:
                    raise  # an earlier attempt may have completed the card
                log.info("%s", fault)
            raise StreamGone(str(refusal)) from None
        return SentRef(ref.message)

    async def _send(self, reply: Reply, message: Outgoing) -> SentRef:
        return SentRef(await self._send_to(reply.conversation, reply.reply_to, message, reply.key))

    async def _send_to(self, place: ConversationKey, reply_to: str, message: Outgoing, key: str) -> str:
        """Send a message; to the chat if the message to reply to is gone. Raise like `FeishuApi.call`."""
        if reply_to:
            try:
                return await self._api.reply(reply_to, message, key)
            except FeishuRefusal as refusal:
                if not refusal.place_is_gone:
                    raise
                log.info("%s; sending to the chat instead", refusal)
        return await self._api.send_to_chat(place.chat, message, key)


def without_mentions(text: str) -> str:
    """Return text without working `<at user_id="all">`: a user could have the model notify everyone."""
    return MENTION_TAG.sub("<\u200b", text)
