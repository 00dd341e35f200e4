"""Reading Telegram's updates (https://core.telegram.org/bots/api#update)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clawd_runtime.bot.values import ChatKind, ConversationKey, Inbound

ALLOWED_UPDATES = ["message"]
GROUPS = ("group", "supergroup")
# What a person sends that is not text. All else (someone joined, a title changed) is no message to us.
WORDLESS = frozenset(
    {"animation", "audio", "contact", "dice", "document", "location", "paid_media", "photo", "poll"}
    | {"sticker", "story", "venue", "video", "video_note", "voice"}
)
PUNCTUATION = ",.;:!?，。；：！？、"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the bot is: Telegram's id and user name (without @)."""

    id: int
    username: str


@dataclass(frozen=True, slots=True)
class Mention:
    """A place of the text that names somebody: `[start, end)` in characters, and what remains of it."""

    start: int
    end: int
    is_bot: bool
    rest: str = ""


def is_update(found: object) -> bool:
    """Whether it is an update, be it readable or not: one that can be told apart by its number."""
    return isinstance(found, dict) and isinstance(found.get("update_id"), int)


def read_update(update: Mapping[str, Any], me: Identity, received_at: float) -> Inbound | None:
    """The message of an update; None when there is none for the bot.

    Edited messages, posts of channels and messages of other bots are none. Raises `ValueError` when it is
    not an update.
    """
    try:
        return _read(update, me, received_at)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not an update of Telegram: {type(error).__name__}") from None


def _read(update: Mapping[str, Any], me: Identity, received_at: float) -> Inbound | None:
    update_id = int(update["update_id"])
    message = update.get("message")
    if message is None:
        return None
    chat, sender = message["chat"], _sender(message)
    kind = _kind(chat["type"])
    text = message.get("text", message.get("caption"))
    if kind is None or sender is None or (text is None and not WORDLESS & message.keys()):
        return None
    text = text or ""
    mentions = tuple(_mentions(message, text, me))
    return Inbound(
        event_id=f"{me.id}:{update_id}",
        message_id=f"{me.id}:{chat['id']}:{message['message_id']}",
        conversation=ConversationKey("telegram", str(chat["id"]), _topic(message)),
        chat_kind=kind,
        user=sender,
        text=_without(text, mentions),
        addressed=kind == "private"
        or any(mention.is_bot for mention in mentions)
        or (_replies_to(message, me) and not _commands_another(mentions)),
        reply_to=str(message["message_id"]),
        received_at=received_at,
        language=(message.get("from") or {}).get("language_code"),
    )


def _kind(chat_type: str) -> ChatKind | None:
    if chat_type == "private":
        return "private"
    return "group" if chat_type in GROUPS else None


def _sender(message: Mapping[str, Any]) -> str | None:
    """Id of the person, or of the chat on whose behalf an anonymous administrator writes."""
    if message.get("is_automatic_forward"):
        return None
    if "sender_chat" in message:
        return f"chat{message['sender_chat']['id']}"
    sender = message.get("from")
    return None if sender is None or sender.get("is_bot") else str(sender["id"])


def _topic(message: Mapping[str, Any]) -> str:
    # Outside of forums the field marks a chain of replies, and sending with it is refused.
    return str(message["message_thread_id"]) if message.get("is_topic_message") else ""


def _replies_to(message: Mapping[str, Any], me: Identity) -> bool:
    replied = message.get("reply_to_message") or {}
    # In a topic, everything "replies" to the notice that the topic was made.
    return (replied.get("from") or {}).get("id") == me.id and "forum_topic_created" not in replied


def _mentions(message: Mapping[str, Any], text: str, me: Identity) -> Iterator[Mention]:
    units = text.encode("utf-16-le")
    for entity in message.get("entities") or message.get("caption_entities") or ():
        first, last = 2 * entity["offset"], 2 * (entity["offset"] + entity["length"])
        start = len(units[:first].decode("utf-16-le", "replace"))
        named = units[first:last].decode("utf-16-le", "replace")
        end = start + len(named)
        match entity["type"]:
            case "mention":
                yield Mention(start, end, named[1:].lower() == me.username.lower())
            case "text_mention":
                yield Mention(start, end, entity["user"]["id"] == me.id)
            case "bot_command" if "@" in named:
                command, _, addressee = named.partition("@")
                yield Mention(start, end, addressee.lower() == me.username.lower(), command)


def _commands_another(mentions: tuple[Mention, ...]) -> bool:
    return any(mention.rest and not mention.is_bot for mention in mentions)


def _without(text: str, mentions: tuple[Mention, ...]) -> str:
    """The text without mentions of the bot; `/command@bot` becomes `/command`."""
    for mention in sorted(mentions, key=lambda mention: mention.start, reverse=True):
        if mention.is_bot and mention.rest:
            text = text[: mention.start] + mention.rest + text[mention.end :]
        elif mention.is_bot:
            text = _join(text[: mention.start].rstrip(" "), text[mention.end :].lstrip(" "))
    return text.strip()


def _join(before: str, after: str) -> str:
    apart = before and after and after[0] not in PUNCTUATION
    return f"{before} {after}" if apart else before + after
