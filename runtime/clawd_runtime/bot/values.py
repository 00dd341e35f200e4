"""The platform-neutral, frozen values passed between channels and router.

An event of a platform becomes an `Inbound`; the router makes one answer to it, which a channel splits into
`Content`, one for each `Reply` to send. Platform-specific data stays in the channel; the opaque strings
`event_id`, `message_id`, `reply_to` and those of `ConversationKey` are only passed back to it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

ChatKind = Literal["private", "group"]
PartKind = Literal[
    "animation",
    "audio",
    "card",
    "checklist",
    "contact",
    "dice",
    "event",
    "file",
    "forwarded",
    "game",
    "location",
    "other",
    "picture",
    "poll",
    "sticker",
    "story",
    "video",
    "voice",
]

KEY_LENGTH = 40


@dataclass(frozen=True, slots=True, order=True)
class ConversationKey:
    """A conversation: its messages are answered one at a time and in order, with a common history.

    `chat` is the platform's chat, `thread` a topic within it (empty if there is none).
    """

    channel: str
    chat: str
    thread: str = ""


@dataclass(frozen=True, slots=True)
class MessagePart:
    """A part of a message that is not text. `name` is its name on the platform (of a file, for example)."""

    kind: PartKind
    name: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that another one replies to, quotes or forwards: its text and its parts that are not text.

    `ref` is the platform's id of a message whose content must still be fetched (`Channel.quoted`).
    """

    text: str = ""
    parts: tuple[MessagePart, ...] = ()
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message sent to the bot.

    `event_id` and `message_id` are each unique within the channel; both detect duplicates, so a channel makes
    them unique over everything that it may ever receive (also under another bot's token). `user` is the
    sender's id on the platform. `text` has mentions of the bot removed and is empty if the sender wrote
    nothing (a picture, a voice message, only a mention). `addressed` means that the message is for the bot:
    always in a private chat, in a group if it is mentioned or replied to. `reply_to` is what the channel
    needs to answer this message. `received_at` is in seconds since the epoch. `language` is the sender's as
    an IETF tag, if known. `parts` are the parts of the message that the bot cannot read. `quote` is the
    message that this one refers to; it is never treated as a command or as the sender's text. `outside`: the
    platform reports that the sender belongs to another organisation than the bot. `edited` means that this
    one replaces the text of a message with the same `message_id`.
    """

    event_id: str
    message_id: str
    conversation: ConversationKey
    chat_kind: ChatKind
    user: str
    text: str
    addressed: bool
    reply_to: str
    received_at: float
    language: str | None = None
    parts: tuple[MessagePart, ...] = ()
    quote: Quote | None = None
    outside: bool = False
    edited: bool = False

    @property
    def channel(self) -> str:
        """Name of the channel through which the message was received."""
        return self.conversation.channel


@dataclass(frozen=True, slots=True)
class Content:
    """The content of one message: `text`, complete as plain text, and how the channel shows it.

    `formatting` is opaque to the core, which stores it with the message and passes it back; empty for plain
    text. A channel must be able to read what an earlier release of it has stored.
    """

    text: str
    formatting: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is shown before a reply is complete: the answer so far, which is Markdown, or a notice."""

    text: str
    is_notice: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """Where a reply is shown before it is complete.

    `ref` is the channel's reference, opaque to the core. `sequence` numbers the updates of the platform's
    message: it is higher than that of every earlier one, and `STREAM_STEP` numbers from it on are free.
    """

    ref: str
    sequence: int


STREAM_STEP = 8


@dataclass(frozen=True, slots=True)
class Reply:
    """A message to send: part number `part` (from 0) of `parts` of the answer to an event.

    `reply_to` is empty for a message that answers none. `key` identifies this part of the answer to this
    event in all attempts: 40 hexadecimal digits, for platforms that accept an idempotency key. `attempt`
    counts from 1. `formatting` is that of `Content`. `shown` is where the answer has been growing: it is
    completed there.
    """

    key: str
    event_id: str
    conversation: ConversationKey
    chat_kind: ChatKind
    reply_to: str
    text: str
    part: int = 0
    parts: int = 1
    attempt: int = 1
    formatting: str = ""
    shown: Shown | None = None


@dataclass(frozen=True, slots=True)
class SentRef:
    """The platform's id of a sent message."""

    id: str


def reply_key(channel: str, event_id: str, part: int) -> str:
    """Return the idempotency key of one part of the answer to an event (see `Reply.key`)."""
    seed = "\0".join((channel, event_id, str(part)))
    return hashlib.sha256(seed.encode()).hexdigest()[:KEY_LENGTH]
