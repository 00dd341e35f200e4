"""The interface of a channel.

A channel is a class in its own module, named in `registry.CHANNELS`. It provides

- `Settings`, a `ChannelSettings` for its section of bot.json, and `credentials()`, the secrets it needs;
- `routes()` for webhooks, `run()` for background work (long polling, registering a webhook);
- `send()`, `split()` and, optionally, `formatted()`, which makes messages of a model's Markdown, and
  `answering()`, which shows that an answer is being written.

Receiving: parse the event into an `Inbound`, `await context.inbox.store(inbound)`, and only then acknowledge
the event to the platform (HTTP 200). `store` returns when the message is safe on disk; its result reports
duplicates, which need no further handling. Everything else (commands, groups, rate limits, order, history,
the model, retries) is done by the core.

Sending: messages are made once, and stored; `send()` delivers exactly one of them, or raises one of

    DeliveryError
    ├── RetryLater         it certainly did not arrive; retry after a number of seconds
    ├── DeliveryUnknown    it may have arrived (timeout while waiting for the platform's response)
    ├── StreamGone         it certainly did not arrive where `Reply.shown` is; send it as a new message
    └── Undeliverable      it can never arrive (blocked by the user, chat deleted)

`idempotent_for` is how long after the first attempt the platform recognises `Reply.key`; the core repeats a
doubtful delivery only within that time. Any other exception counts as `DeliveryUnknown`.

Streaming: a channel whose `streaming()` returns settings shows growing answers in a message that the core
records (`handling.streaming`): `prepare()`, `open()`, then `update()`; `send()` completes it. A message with
`Reply.shown` may be sent any number of times with the same effect.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import httpx
from pydantic import BaseModel, ConfigDict
from starlette.routing import BaseRoute

from clawd_runtime.bot.buckets import Bucket
from clawd_runtime.bot.credentials import Credentials
from clawd_runtime.bot.ports import Inbox, PageStore
from clawd_runtime.bot.service.rejections import Rejections
from clawd_runtime.bot.values import (
    ChatKind,
    Content,
    ConversationKey,
    Inbound,
    Piece,
    Quote,
    Reply,
    SentRef,
    Shown,
)
from clawd_runtime.errors import ChannelError

SHORTEST_WAIT = 1.0
LONGEST_WAIT = 24 * 3600.0
PacedKind = Literal["message", "change", "completion"]


class DeliveryError(ChannelError):
    """A message was not delivered, or not certainly. The error is logged: no secrets, no message text."""


class RetryLater(DeliveryError):
    """The message certainly did not arrive; retry after `after` seconds (None: the caller decides)."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class RateLimited(RetryLater):
    """The platform refused the call because there were too many. `whole`: it concerns all chats."""

    def __init__(self, reason: str, after: float | None = None, *, whole: bool = False) -> None:
        super().__init__(reason, after)
        self.whole = whole


class DeliveryUnknown(DeliveryError):
    """The message may or may not have arrived."""


class StreamGone(DeliveryError):
    """The message in which the reply was shown cannot be completed, and does not show the reply."""


class Undeliverable(DeliveryError):
    """The message can never be delivered."""


def seconds_of(value: object) -> float | None:
    """Return the seconds that a platform asks to wait, within bounds; None if `value` is not a number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(seconds) else min(LONGEST_WAIT, max(SHORTEST_WAIT, seconds))


class ChannelSettings(BaseModel):
    """A channel's section of bot.json: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OutboundTexts(Protocol):
    """Checks texts that are about to leave."""

    def value(self, value: Any) -> Any:
        """Return the body of a request with everything that must not leave masked."""
        ...


class UncheckedTexts:
    """An `OutboundTexts` for channels without a bot around them."""

    def value(self, value: Any) -> Any:
        """Return `value`."""
        return value


@dataclass(frozen=True, slots=True)
class ChannelContext:
    """The environment of a channel.

    `http` is the pooled client shared by the whole bot: pass a `timeout` with every request, and use absolute
    addresses. `public_url` is the bot's address from outside, without a final slash. Report every rejected
    request and event to `rejections`. Pass every text that is sent, drafts and cards as well, through
    `outbound`. `pages` is what the page in the browser stores.
    """

    inbox: Inbox
    http: httpx.AsyncClient
    credentials: Credentials
    public_url: str | None
    rejections: Rejections = field(default_factory=Rejections)
    outbound: OutboundTexts = field(default_factory=UncheckedTexts)
    pages: PageStore | None = None


@dataclass(frozen=True, slots=True)
class Streaming:
    """How a channel shows growing answers: a piece at most `every` so many seconds.

    With `notices_only`, an answer does not open a message while it grows (`answering` shows it), but is shown
    in one that a notice has opened.
    """

    every: float
    notices_only: bool = False


class AnswerProgress(Protocol):
    """Shows an answer while it is received."""

    def show(self, text: str) -> None:
        """Show `text`, the whole answer so far (not always longer than before: a model may start again).

        Called for every piece of the model; returns immediately, sends in the background as often as the
        platform allows, and never raises, except for an answer that must not be shown
        (`policy.answers.AnswerBlocked`).
        """
        ...


class NoProgress:
    """A `AnswerProgress` for platforms or chats where nothing can be shown."""

    def show(self, text: str) -> None:
        """Show nothing."""


class Channel(ABC):
    """A platform. Subclasses set `name` and `Settings`; see the module's documentation."""

    name: ClassVar[str]
    Settings: ClassVar[type[ChannelSettings]]
    idempotent_for: ClassVar[float] = 0.0
    """Seconds for which the platform recognises a repeated `Reply.key`; 0 if it has no idempotency key."""

    announces: ClassVar[bool] = False
    """Whether its events are announced to chats, and not answered."""
    is_chat: ClassVar[bool] = False
    """Whether messages are those of a chat, where quick ones may be answered together, and a stopped one need
    not be answered.
    """

    def __init__(self, settings: Any, context: ChannelContext) -> None:
        """Create the channel; raise `SettingsError` if `settings`, a `Settings`, contradict each other."""
        self.context = context

    @classmethod
    def credentials(cls, settings: Any) -> tuple[str, ...]:
        """Return the names of the credentials that these settings require."""
        return ()

    def routes(self) -> Sequence[BaseRoute]:
        """Return the HTTP routes of the channel (`POST /<name>/webhook`)."""
        return ()

    async def run(self) -> None:  # noqa: B027  most channels have nothing to do here
        """Do background work until cancelled. Started with the bot; restarted when it raises."""

    def split(self, text: str) -> tuple[str, ...]:
        """Split an answer into messages that the platform accepts, in order; at least one, none empty."""
        return (text,)

    def formatted(self, markdown: str, notes: str = "") -> tuple[Content, ...]:
        """Return a model's answer, which is Markdown, as messages, with `notes` of the bot below it.

        The notes are plain text. Without formatting, the Markdown is sent as it is.
        """
        text = "\n\n".join(filter(None, (markdown, notes)))
        return tuple(Content(part) for part in self.split(text))

    @abstractmethod
    async def send(self, reply: Reply) -> SentRef:
        """Deliver one message; raise a `DeliveryError` on failure (see the module's documentation)."""

    async def received(self, inbound: Inbound) -> None:  # noqa: B027
        """Show that `inbound` has arrived while it waits for a model. Called immediately, at most once.

        It may take long (a rate limit of the platform) and is then cancelled when a model is free. Its
        failures are logged and have no effect.
        """

    async def waiting(self, inbound: Inbound, notice: Callable[[], str]) -> None:  # noqa: B027
        """Notify the user once that `inbound` still waits; like `received`, some seconds later.

        `notice` returns the text with the number of messages ahead at that time: call it just before sending.
        """

    def pace(self, conversation: ConversationKey, chat_kind: ChatKind, call: PacedKind) -> tuple[Bucket, ...]:
        """Return the token buckets of a call: for a new message, a change, or the completion of one."""
        return ()

    def streaming(self, inbound: Inbound) -> Streaming | None:
        """Return how the answer to a message is shown while it grows; None if in no message."""
        return None

    async def prepare(self, inbound: Inbound, piece: Piece) -> str:
        """Return a reference that is known before the message exists; empty if there is none.

        Nothing is visible yet. Raise `ChannelError` on failure.
        """
        return ""

    async def open(self, inbound: Inbound, shown: Shown, piece: Piece) -> str:
        """Send the message that shows `piece`, and return its reference. Raise like `send`.

        `shown.ref` is what `prepare` returned, also in an earlier run. With `idempotent_for`, it may be
        called again for the same message.
        """
        raise Undeliverable(f"{self.name}: messages cannot grow")

    async def update(self, inbound: Inbound, shown: Shown, piece: Piece) -> None:  # noqa: B027
        """Replace what the message shows. Raise like `send`; the reference stays valid after any error."""

    async def quoted(self, ref: str) -> Quote:
        """Return the content of the message `ref` (see `Quote.ref`); raise `ChannelError` on failure."""
        raise ChannelError(f"{self.name}: looking up messages is not supported")

    async def departments(self, user: str) -> frozenset[str]:
        """Return the ids of the departments of a person, and of those above them; raise `ChannelError`."""
        raise ChannelError(f"{self.name}: there are no departments")

    @asynccontextmanager
    async def answering(self, inbound: Inbound) -> AsyncIterator[AnswerProgress]:
        """Show "typing", a draft or a growing card while a model answers `inbound` inside the context.

        Failures must not affect the answer, and leaving the context ends everything it started.
        """
        yield NoProgress()

    def announced_to(self, inbound: Inbound) -> Sequence[ConversationKey] | None:
        """Return the conversations, of any channel, to which the text of an event is announced.

        None for an event that is answered, such as every message of a person.
        """
        return None

    def left_unanswered(self, event_id: str) -> None:  # noqa: B027
        """Handle the end of a stored message that will never get an answer."""

    async def close(self) -> None:  # noqa: B027
        """Release resources; called once when the bot stops, after the last `send`."""
