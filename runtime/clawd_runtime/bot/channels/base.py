"""What a channel is.

A channel is a class in its own module, named in `registry.CHANNELS`. It brings

- `Settings`, a `ChannelSettings` for its part of bot.json, and `credentials()`, the secrets it needs;
- `routes()` for webhooks, `run()` for what works in the background (long polling, registering a webhook);
- `send()`, `split()` and, if it likes, `answering()`, which shows that an answer is being made.

Receiving: parse the event into an `Inbound`, `await context.inbox.store(inbound)`, and only then tell the
platform that the event has arrived (HTTP 200). `store` returns when the message is safe on disk; repetitions
are told by its result and need no care. Everything else (commands, groups, rate limits, order, history, the
model, retries) is the core's.

Sending: `send()` delivers exactly one message, or raises one of

    DeliveryError
    ├── RetryLater         it certainly did not arrive; try again after so many seconds
    ├── DeliveryUnknown    it may have arrived (time-out while waiting for the platform's word)
    └── Undeliverable      it never will (blocked by the user, chat gone)

`idempotent_for` says for how long after the first attempt the platform recognises `Reply.key`; the core
repeats a doubtful delivery only within that time. Any other exception counts as `DeliveryUnknown`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import httpx
from pydantic import BaseModel, ConfigDict
from starlette.routing import BaseRoute

from clawd_runtime.bot.credentials import Credentials
from clawd_runtime.bot.rejections import Rejections
from clawd_runtime.bot.values import ConversationKey, Inbound, Quote, Reply, SentRef
from clawd_runtime.errors import ChannelError

SHORTEST_WAIT = 1.0
LONGEST_WAIT = 24 * 3600.0


class DeliveryError(ChannelError):
    """A message was not delivered, or not surely. The text is logged: no secrets, no message text."""


class RetryLater(DeliveryError):
    """The message certainly did not arrive; try again after `after` seconds (None: when you see fit)."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class DeliveryUnknown(DeliveryError):
    """The message may or may not have arrived."""


class Undeliverable(DeliveryError):
    """The message can never be delivered."""


def seconds_of(told: object) -> float | None:
    """Return the seconds that a platform asks to wait, within bounds; None when it gave no number."""
    if isinstance(told, bool) or not isinstance(told, str | int | float):
        return None
    try:
        seconds = float(told)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(seconds) else min(LONGEST_WAIT, max(SHORTEST_WAIT, seconds))


class ChannelSettings(BaseModel):
    """A channel's part of bot.json: frozen, strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a stored message. `text` is None when it was left without an answer."""

    text: str | None


TokenUse = Literal["new", "same", "other", "full"]
"""Of a single-use token: not used before, used for the same request, used for another one, or too many tokens
are remembered to remember this one.
"""


class Inbox(Protocol):
    """The part of the store that channels see."""

    async def store(self, inbound: Inbound) -> bool:
        """Store a message and return when it is on disk. False: it was known already (by either id)."""
        ...

    async def store_all(self, inbounds: Sequence[Inbound], channel: str, state: Mapping[str, str]) -> None:
        """Store messages and the channel's own `state` (see `state`) in one transaction."""
        ...

    async def state(self, channel: str, name: str) -> str | None:
        """What the channel stored under `name`, such as an offset."""
        ...

    async def leads(self, role: str) -> bool:
        """Whether it is this bot that does what only one of those on the database may do; ask again and
        again.
        """
        ...

    async def use_token(self, token: str, request: str, expires_at: float) -> TokenUse:
        """Record that the single-use `token` was used for `request`; return what it was used for before.

        It is remembered until `expires_at`, for all bots on the database.
        """
        ...

    async def answer_to(self, channel: str, event_id: str) -> Answer | None:
        """The answer to a stored message; None while it is being made or when the event is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class ChannelContext:
    """What a channel works with.

    `http` is the pooled client shared by the whole bot: give every request its own `timeout`, and use
    absolute addresses. `public_url` is where the bot is reached from outside, without a final slash.
    Report every rejected request and event to `rejections`.
    """

    inbox: Inbox
    http: httpx.AsyncClient
    credentials: Credentials
    public_url: str | None
    rejections: Rejections = field(default_factory=Rejections)


class Progress(Protocol):
    """Shows an answer while it grows."""

    def show(self, text: str) -> None:
        """Show `text`, the whole answer so far (not always longer than before: a model may start anew).

        Called for every piece the model gives; returns at once, sends in the background as often as
        the platform allows, and never raises.
        """
        ...


class NoProgress:
    """For platforms or chats where nothing can be shown."""

    def show(self, text: str) -> None:
        """Show nothing."""


class Channel(ABC):
    """One platform. Subclasses set `name` and `Settings`; see the module's description."""

    name: ClassVar[str]
    Settings: ClassVar[type[ChannelSettings]]
    idempotent_for: ClassVar[float] = 0.0
    """Seconds for which the platform recognises a repeated `Reply.key`."""

    def __init__(self, settings: Any, context: ChannelContext) -> None:
        """`settings` is an instance of `Settings`. Raises `SettingsError` when they cannot work together."""
        self.context = context

    @classmethod
    def credentials(cls, settings: Any) -> tuple[str, ...]:
        """Names of the credentials that must be there with these settings."""
        return ()

    def routes(self) -> Sequence[BaseRoute]:
        """HTTP routes of the channel (`POST /<name>/webhook`)."""
        return ()

    async def run(self) -> None:  # noqa: B027  most channels have nothing to do here
        """Work in the background until cancelled. Started with the bot; restarted when it raises."""

    def split(self, text: str) -> tuple[str, ...]:
        """Cut an answer into messages that the platform takes, in order; at least one, none empty."""
        return (text,)

    @abstractmethod
    async def send(self, reply: Reply) -> SentRef:
        """Deliver one message. Raises a `DeliveryError`; see the module's description."""

    async def received(self, inbound: Inbound) -> None:  # noqa: B027
        """Show that `inbound` has arrived while it waits for a model. Called at once, at most once.

        May take its time (a limit of the platform) and is then cancelled when a model is free. Its failures
        are logged and have no effect.
        """

    async def waiting(self, inbound: Inbound, notice: Callable[[], str]) -> None:  # noqa: B027
        """Notify the person once that `inbound` still waits. As `received`, some seconds later.

        `notice` gives the words, with how many are ahead when it is called: call it just before sending.
        """

    async def quoted(self, ref: str) -> Quote:
        """Return the content of the message that `Quote.ref` names. Raise `ChannelError` without it."""
        raise ChannelError(f"{self.name}: does not look up messages")

    @asynccontextmanager
    async def answering(self, inbound: Inbound) -> AsyncIterator[Progress]:
        """Entered while a model answers `inbound`: show "typing", a draft, a growing card.

        Its failures must not disturb the answer, and leaving it ends all it started.
        """
        yield NoProgress()

    def announced_to(self, inbound: Inbound) -> Sequence[ConversationKey] | None:
        """For an event that is no question: the conversations, of any channel, that are told its text.

        None, as for every message of a person: it is answered.
        """
        return None

    def left_unanswered(self, event_id: str) -> None:  # noqa: B027
        """Told when a stored message is dealt with and no answer to it will ever come."""

    async def close(self) -> None:  # noqa: B027
        """Called once when the bot stops, after the last `send`."""
