"""Parsing of Telegram's updates (https://core.telegram.org/bots/api#update)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from clawd_runtime.bot.channels.telegram.parts import parts_of
from clawd_runtime.bot.foreign_json import (
    Foreign,
    ForeignName,
    ForeignText,
    Int64,
    LanguageTag,
    read_as,
)
from clawd_runtime.bot.values import ChatKind, ConversationKey, Inbound, MessagePart, Quote
from clawd_runtime.visible import is_blank

ALLOWED_UPDATES = ["message", "edited_message"]
GROUPS = ("group", "supergroup")
LARGEST_UPDATE_ID = 2**53
LONGEST_ADDRESS = 2000
PUNCTUATION = ",.;:!?，。；：！？、"


class User(Foreign):
    """A person or a bot."""

    id: Int64
    is_bot: bool = False
    language_code: LanguageTag = None


class Chat(Foreign):
    """A chat."""

    id: Int64
    type: ForeignName


class Entity(Foreign):
    """A marked range of a text, in UTF-16 units."""

    type: ForeignName
    offset: Annotated[int, Field(ge=0, lt=2**31)]
    length: Annotated[int, Field(ge=0, lt=2**31)]
    user: User | None = None
    url: ForeignText | None = None


Entities = Annotated[list[Entity], Field(fail_fast=True, max_length=1000)]


class TextQuote(Foreign):
    """The part of a message that a reply quotes."""

    text: ForeignText = ""
    entities: Entities = Field(default_factory=list)


class RepliedMessage(Foreign):
    """A message that another one replies to, or whose content it forwards."""

    from_: User | None = Field(None, alias="from")
    text: ForeignText | None = None
    caption: ForeignText | None = None
    entities: Entities = Field(default_factory=list)
    caption_entities: Entities = Field(default_factory=list)
    forum_topic_created: Any = None


class TelegramMessage(RepliedMessage):
    """A message; `parts_of` returns its parts that are not text."""

    message_id: Int64
    chat: Chat
    sender_chat: Chat | None = None
    message_thread_id: Int64 | None = None
    is_topic_message: bool = False
    is_automatic_forward: bool = False
    reply_to_message: RepliedMessage | None = None
    reply_to_story: Any = None
    quote: TextQuote | None = None
    forward_origin: dict[str, Any] | None = None
    forward_date: Any = None


class Update(Foreign):
    """An update, whose message may be unreadable."""

    update_id: Annotated[int, Field(ge=0, lt=LARGEST_UPDATE_ID)]
    message: Any = None
    edited_message: Any = None


@dataclass(frozen=True, slots=True)
class TelegramIdentity:
    """The bot's id and user name (without @) on Telegram."""

    id: int
    username: str


@dataclass(frozen=True, slots=True)
class TelegramMention:
    """A mention in a text: `[start, end)` in characters, and the text that replaces it."""

    start: int
    end: int
    is_bot: bool
    rest: str = ""


def is_update(found: object) -> bool:
    """Return whether a value is an update with a number, readable or not."""
    if not isinstance(found, dict):
        return False
    number = found.get("update_id")
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < LARGEST_UPDATE_ID


def read_update(update: Mapping[str, Any], me: TelegramIdentity, received_at: float) -> Inbound | None:
    """Return the message of an update; None if it has none for the bot.

    Posts of channels and messages of other bots are ignored. Raise `ForeignJsonError`, a
    `ValueError`, if it is not an update.
    """
    read = read_as(Update, update)
    raw: Any = read.message if read.message is not None else read.edited_message
    if raw is None:
        return None
    message = read_as(TelegramMessage, raw)
    kind, sender, parts = _kind(message.chat.type), _sender(message), parts_of(raw)
    written = message.text if message.text is not None else message.caption
    if kind is None or sender is None or (written is None and not parts):
        return None
    text = written or ""
    mentions = tuple(_mentions(message, text, me))
    links = _links(text, message.entities or message.caption_entities)
    own_words = _without(text, mentions, links)
    forwarded = message.forward_origin is not None or message.forward_date is not None
    return Inbound(
        event_id=f"{me.id}:{read.update_id}",
        message_id=f"{me.id}:{message.chat.id}:{message.message_id}",
        conversation=ConversationKey("telegram", str(message.chat.id), _topic(message)),
        chat_kind=kind,
        user=sender,
        # A forwarded text is not the sender's own, and must not be executed as a command.
        text="" if forwarded else own_words,
        addressed=kind == "private"
        or any(mention.is_bot for mention in mentions)
        or (_replies_to(message, me) and not _commands_another(mentions)),
        reply_to=str(message.message_id),
        received_at=received_at,
        language=message.from_.language_code if message.from_ else None,
        parts=() if forwarded else parts,
        quote=Quote(own_words, parts) if forwarded else _quote(message, raw),
        edited=read.message is None,
    )


def _kind(chat_type: str) -> ChatKind | None:
    if chat_type == "private":
        return "private"
    return "group" if chat_type in GROUPS else None


def _sender(message: TelegramMessage) -> str | None:
    """Return the id of the user, or of the chat on whose behalf an anonymous administrator writes."""
    if message.is_automatic_forward:
        return None
    if message.sender_chat is not None:
        return f"chat{message.sender_chat.id}"
    sender = message.from_
    return None if sender is None or sender.is_bot else str(sender.id)


def _topic(message: TelegramMessage) -> str:
    # Outside of forums the field marks a thread of replies, and sending with it is refused.
    in_topic = message.is_topic_message and message.message_thread_id is not None
    return str(message.message_thread_id) if in_topic else ""


def _replied(message: TelegramMessage) -> RepliedMessage | None:
    # In a topic, every message "replies" to the notice that the topic was created.
    replied = message.reply_to_message
    return None if replied is None or replied.forum_topic_created is not None else replied


def _replies_to(message: TelegramMessage, me: TelegramIdentity) -> bool:
    replied = _replied(message)
    return replied is not None and replied.from_ is not None and replied.from_.id == me.id


def _quote(message: TelegramMessage, raw: Mapping[str, Any]) -> Quote | None:
    """Return the quoted text, otherwise the message replied to, in this or another chat; None for none."""
    replied = _replied(message)
    parts = parts_of(raw.get("reply_to_message" if replied is not None else "external_reply"))
    if not parts and message.reply_to_story is not None:
        parts = (MessagePart("story"),)
    if message.quote is not None and not is_blank(message.quote.text):
        return Quote(_with_links(message.quote.text, message.quote.entities), parts)
    text = ""
    if replied is not None:
        entities = replied.entities or replied.caption_entities
        text = _with_links(replied.text or replied.caption or "", entities)
    return None if is_blank(text) and not parts else Quote(text, parts)


def _mentions(message: TelegramMessage, text: str, me: TelegramIdentity) -> Iterator[TelegramMention]:
    for start, named, entity in _places(text, message.entities or message.caption_entities):
        end = start + len(named)
        match entity.type:
            case "mention":
                yield TelegramMention(start, end, named[1:].lower() == me.username.lower())
            case "text_mention":
                yield TelegramMention(start, end, entity.user is not None and entity.user.id == me.id)
            case "bot_command" if "@" in named:
                command, _, addressee = named.partition("@")
                yield TelegramMention(start, end, addressee.lower() == me.username.lower(), command)


def _places(text: str, entities: Iterable[Entity]) -> Iterator[tuple[int, str, Entity]]:
    """Yield each entity's start in characters and its text."""
    units = text.encode("utf-16-le")
    for entity in entities:
        first, last = 2 * entity.offset, 2 * (entity.offset + entity.length)
        start = len(units[:first].decode("utf-16-le", "replace"))
        yield start, units[first:last].decode("utf-16-le", "replace"), entity


def _links(text: str, entities: Iterable[Entity]) -> Iterator[tuple[int, str]]:
    """Yield the addresses of links in `text`, and the positions to insert them."""
    for start, words, entity in _places(text, entities):
        address = (entity.url or "")[:LONGEST_ADDRESS]
        if entity.type == "text_link" and address and address.rstrip("/") != words.strip().rstrip("/"):
            yield start + len(words.rstrip()), f" ({address})"


def _with_links(text: str, entities: Iterable[Entity]) -> str:
    for place, address in sorted(_links(text, entities), reverse=True):
        text = text[:place] + address + text[place:]
    return text


def _commands_another(mentions: tuple[TelegramMention, ...]) -> bool:
    return any(mention.rest and not mention.is_bot for mention in mentions)


def _without(text: str, mentions: Iterable[TelegramMention], links: Iterable[tuple[int, str]]) -> str:
    """Return the text with the addresses of its links, and without mentions of the bot.

    `/command@bot` becomes `/command`.
    """
    changes: list[tuple[int, str | TelegramMention]] = [(mention.start, mention) for mention in mentions]
    changes += links
    for place, change in sorted(changes, key=lambda change: change[0], reverse=True):
        if isinstance(change, str):
            text = text[:place] + change + text[place:]
        elif change.is_bot and change.rest:
            text = text[:place] + change.rest + text[change.end :]
        elif change.is_bot:
            text = _join(text[:place].rstrip(" "), text[change.end :].lstrip(" "))
    return text.strip()


def _join(before: str, after: str) -> str:
    apart = before and after and after[0] not in PUNCTUATION
    return f"{before} {after}" if apart else before + after
