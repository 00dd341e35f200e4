"""From an event of Feishu to an `Inbound` (open platform, "Receive message v2.0")."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clawd_runtime.bot.values import ConversationKey, Inbound

CHANNEL = "feishu"
MESSAGE_RECEIVED = "im.message.receive_v1"
PLACEHOLDER = re.compile(r"(@_user_\d+)( ?)")


@dataclass(frozen=True, slots=True)
class Mention:
    """Somebody named in a message, where its text has `key`."""

    key: str
    open_id: str
    name: str


def is_addressable_group(event: Mapping[str, Any]) -> bool:
    """Whether it takes the bot's own id to tell if the bot is meant: a group where somebody is mentioned."""
    try:
        message = event["event"]["message"]
        return message["chat_type"] != "p2p" and bool(message.get("mentions"))
    except (LookupError, TypeError, AttributeError):
        return False


def read_message(
    event: Mapping[str, Any], bot_open_id: str | None, language: str | None = None
) -> Inbound | None:
    """The message that an event tells of; None for other events, for messages of bots, and for nonsense.

    Without `bot_open_id` no message of a group counts as addressed. `language` is that of the platform, as
    no event tells its sender's.
    """
    try:
        header, sender, message = event["header"], event["event"]["sender"], event["event"]["message"]
        if header["event_type"] != MESSAGE_RECEIVED or sender["sender_type"] != "user":
            return None
        mentions = tuple(_mentions(message))
        private = message["chat_type"] == "p2p"
        mentioned = bot_open_id is not None and any(each.open_id == bot_open_id for each in mentions)
        return Inbound(
            event_id=_text(header["event_id"]),
            message_id=_text(message["message_id"]),
            conversation=ConversationKey(
                CHANNEL, _text(message["chat_id"]), str(message.get("thread_id") or "")
            ),
            chat_kind="private" if private else "group",
            user=_text(sender["sender_id"]["open_id"]),
            text=_without_placeholders(_content(message), mentions, bot_open_id),
            addressed=private or mentioned,
            reply_to=_text(message["message_id"]),
            received_at=int(message["create_time"]) / 1000,
            language=language,
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("an identifier is missing")
    return value


def _mentions(message: Mapping[str, Any]) -> Iterator[Mention]:
    for each in message.get("mentions") or ():
        yield Mention(str(each["key"]), str(each["id"].get("open_id") or ""), str(each.get("name") or ""))


def _content(message: Mapping[str, Any]) -> str:
    """The words of a message; empty when it has none that can be read (a picture, a voice message)."""
    match message["message_type"]:
        case "text":
            return str(json.loads(message["content"])["text"])
        case "post":
            return _post_text(json.loads(message["content"]))
        case _:  # what content holds then is not always JSON (merge_forward)
            return ""


def _post_text(content: Mapping[str, Any]) -> str:
    """Title and lines of a rich text message, which may stand under a language."""
    post = content if "content" in content else next(iter(content.values()), {})
    lines = ["".join(map(_piece, line)) for line in post.get("content") or ()]
    return "\n".join([*filter(None, [post.get("title")]), *lines])


def _piece(piece: Mapping[str, Any]) -> str:
    match piece.get("tag"):
        case "text" | "md" | "code_block":
            return str(piece.get("text", ""))
        case "a":
            label, address = str(piece.get("text", "")), str(piece.get("href", ""))
            return label if label == address or not address else f"{label} ({address})"
        case "at":
            return str(piece.get("user_id", ""))
        case _:
            return ""


def _without_placeholders(text: str, mentions: tuple[Mention, ...], bot_open_id: str | None) -> str:
    """`text` with the bot's mentions taken out and the names of others put in."""
    by_key = {each.key: each for each in mentions}

    def shown(found: re.Match[str]) -> str:
        mention = by_key.get(found[1])
        if mention is None:
            return found[0]
        return "" if mention.open_id == bot_open_id else f"@{mention.name}{found[2]}"

    return PLACEHOLDER.sub(shown, text).strip()
