"""Parsing of Feishu's events into `Inbound` values (open platform, "Receive message v2.0")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field

from clawd_runtime.bot.channels.feishu.content import FeishuContent, FeishuMention, read_content
from clawd_runtime.bot.foreign_json import (
    Foreign,
    ForeignJsonError,
    ForeignName,
    ForeignText,
    Identifier,
    OptionalIdentifier,
    read_as,
)
from clawd_runtime.bot.values import ConversationKey, Inbound, Quote

CHANNEL = "feishu"
MESSAGE_RECEIVED = "im.message.receive_v1"
PRIVATE = "p2p"
# How far Feishu's clock may be ahead of the local one; a later time is invalid.
CLOCK_DIFFERENCE = 300.0

Milliseconds = Annotated[str, Field(pattern=r"^[0-9]{1,15}$")]


class Ids(Foreign):
    """The ids of a user; only the one for this app counts."""

    open_id: OptionalIdentifier = None


class Mentioned(Foreign):
    """A mention in a message. `id` is an object in events, a string in fetched messages."""

    key: ForeignName
    id: Ids | ForeignName | None = None
    name: ForeignName | None = None

    def as_mention(self) -> FeishuMention:
        """Return the mention in a single form."""
        who = self.id.open_id if isinstance(self.id, Ids) else self.id
        return FeishuMention(self.key, who or "", self.name or "")


Mentions = Annotated[list[Mentioned], Field(fail_fast=True, max_length=1000)]


class Sender(Foreign):
    """The sender of a message."""

    sender_type: ForeignName
    sender_id: Ids | None = None
    tenant_key: OptionalIdentifier = None


class FeishuMessage(Foreign):
    """A message."""

    message_id: Identifier
    create_time: Milliseconds
    chat_id: Identifier
    chat_type: ForeignName
    message_type: ForeignName
    content: ForeignText
    thread_id: OptionalIdentifier = None
    parent_id: OptionalIdentifier = None
    mentions: Mentions | None = None


class Body(Foreign):
    """The field `event` of an event about a message."""

    sender: Sender
    message: FeishuMessage


class Header(Foreign):
    """The field `header` of an event."""

    event_id: Identifier
    event_type: ForeignName
    tenant_key: OptionalIdentifier = None


class HeaderOnly(Foreign):
    """An event of any type."""

    header: Header


class MessageEvent(HeaderOnly):
    """An event about a message."""

    event: Body


def kind_of(event: Mapping[str, Any]) -> str:
    """Return the type of an event; raise `ForeignJsonError` if it has none."""
    return read_as(HeaderOnly, event).header.event_type


def is_addressable_group(event: Mapping[str, Any]) -> bool:
    """Return whether a group message has mentions, so that the bot's own id decides if it is addressed."""
    try:
        message = read_as(MessageEvent, event).event.message
        if message.chat_type == PRIVATE:
            return False
        return bool(message.mentions) or bool(_content(message, (), None).named)
    except ForeignJsonError:
        return False


def read_message(
    event: Mapping[str, Any],
    bot_open_id: str | None,
    language: str | None = None,
    now: float | None = None,
) -> Inbound | None:
    """Return the message of an event; None for other events and for messages of bots.

    Without `bot_open_id` no message of a group counts as addressed. `language` is that of the platform, since
    events do not contain the sender's. `now` limits the time of a message. Raise `ForeignJsonError` for an
    invalid event.
    """
    if kind_of(event) != MESSAGE_RECEIVED:
        return None
    read = read_as(MessageEvent, event)
    sender, message = read.event.sender, read.event.message
    if sender.sender_type != "user":
        return None
    if sender.sender_id is None or sender.sender_id.open_id is None:
        raise ForeignJsonError("event.sender.sender_id.open_id (missing)")
    mentions = tuple(each.as_mention() for each in message.mentions or ())
    content = _content(message, mentions, bot_open_id)
    private = message.chat_type == PRIVATE
    named = content.named | {each.open_id for each in mentions}
    sent_at = int(message.create_time) / 1000
    return Inbound(
        event_id=read.header.event_id,
        message_id=message.message_id,
        conversation=ConversationKey(CHANNEL, message.chat_id, message.thread_id or ""),
        chat_kind="private" if private else "group",
        user=sender.sender_id.open_id,
        text=content.text,
        addressed=private or (bot_open_id is not None and bot_open_id in named),
        reply_to=message.message_id,
        received_at=sent_at if now is None or sent_at < now + CLOCK_DIFFERENCE else now,
        language=language,
        parts=tuple(content.parts),
        quote=Quote(ref=message.parent_id) if message.parent_id else None,
        outside=_is_outside(read.header, sender),
    )


def _is_outside(header: Header, sender: Sender) -> bool:
    """Return whether the sender is of another tenant than the app, or of an unknown one."""
    return sender.tenant_key is None or sender.tenant_key != header.tenant_key


def _content(
    message: FeishuMessage, mentions: Sequence[FeishuMention], bot_open_id: str | None
) -> FeishuContent:
    return read_content(message.message_type, message.content, mentions, bot_open_id)
