"""What crosses between a channel and the router: platform-neutral, frozen.

An event of a platform becomes an `Inbound`; the router makes of it one answer, which a channel cuts into
`Reply` values, one for each message to send. Whatever is a platform's own stays in its channel; the
opaque strings `event_id`, `message_id`, `reply_to` and those of `ConversationKey` are only handed back.
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
    """One conversation: messages of it are answered one at a time and in order, with a common history.

    `chat` is the platform's chat, `thread` a topic within it (empty where there is none).
    """

    channel: str
    chat: str
    thread: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message that is not text. `name` is what the platform calls it (a file's name)."""

    kind: PartKind
    name: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """What a message answers, cites or passes on: its text, and the parts of it that are not text.

    `ref` is the platform's id of a message whose content is still to be fetched (`Channel.quoted`).
    """

    text: str = ""
    parts: tuple[Part, ...] = ()
    ref: str = ""


@dataclass(frozen=True, slots=True)
class Inbound:
    """A message that somebody sent to the bot.

    `event_id` and `message_id` are each unique within the channel; both mark repetitions, so a channel makes
    them unique over everything it may ever receive (another bot's token included).
    `user` is the sender's id on the platform. `text` has mentions of the bot removed and is empty when the
    sender wrote nothing (a picture, a voice message, a mention alone).
    `addressed` says that the bot is meant: always in a private chat, in a group when it is mentioned or
    replied to. `reply_to` is what the channel needs to answer this very message.
    `received_at` is in seconds since the epoch. `language` is the sender's as an IETF tag, where known.
    `parts` are those of the message that the bot cannot read. `quote` is what the message refers to; it is no
    command and no word of the sender's.
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
    parts: tuple[Part, ...] = ()
    quote: Quote | None = None

    @property
    def channel(self) -> str:
        """Name of the channel it came through."""
        return self.conversation.channel


@dataclass(frozen=True, slots=True)
class Reply:
    """One message to send: part number `part` (from 0) of `parts` of the answer to an event.

    `reply_to` is empty for a message that answers none.
    `key` is the same whenever this part of the answer to this event is sent, and only then: 40 hexadecimal
    digits, for platforms that accept an idempotency key. `attempt` counts from 1.
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


@dataclass(frozen=True, slots=True)
class SentRef:
    """The platform's own id of a message that was sent."""

    id: str


def reply_key(channel: str, event_id: str, part: int) -> str:
    """The idempotency key of one part of the answer to an event (see `Reply.key`)."""
    seed = "\0".join((channel, event_id, str(part)))
    return hashlib.sha256(seed.encode()).hexdigest()[:KEY_LENGTH]
