"""What channels need of the store, so that neither of the two knows the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from clawd_runtime.bot.values import Inbound


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The outcome of a stored message. `text` is None if it was left without an answer."""

    text: str | None


TokenUse = Literal["new", "same", "other", "full"]
"""The state of a single-use token: new, used for the same request, used for another one, or not storable
because too many tokens are stored.
"""


class Inbox(Protocol):
    """The part of the store that channels use."""

    async def store(self, inbound: Inbound) -> bool:
        """Store a message and return when it is on disk; False if it is a duplicate (by either id)."""
        ...

    async def store_all(self, inbounds: Sequence[Inbound], channel: str, state: Mapping[str, str]) -> None:
        """Store messages and the channel's `state` (see the method) in one transaction."""
        ...

    async def state(self, channel: str, name: str) -> str | None:
        """Return the value that the channel stored under `name`, such as an offset."""
        ...

    async def leads(self, role: str) -> bool:
        """Return whether this bot leads `role`, which only one bot on the database may do; ask repeatedly."""
        ...

    async def use_token(self, token: str, request: str, expires_at: float) -> TokenUse:
        """Record that the single-use `token` is used for `request`, and return its state before.

        It is stored until `expires_at`, for all bots on the database.
        """
        ...

    async def answer_to(self, channel: str, event_id: str) -> StoredAnswer | None:
        """Return the answer to a stored message; None while it is being made, or if the event is unknown."""
        ...


@dataclass(frozen=True, slots=True)
class ConversationSummary:
    """A conversation of a user: its name, its title (empty: none was given) and how it begins."""

    thread: str
    title: str
    beginning: str


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question of a user that is not answered yet."""

    thread: str
    event_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The conversations of a user, the newest first, and the questions that wait for an answer."""

    conversations: tuple[ConversationSummary, ...]
    open: tuple[OpenQuestion, ...]


class PageStore(Protocol):
    """The part of the store that the page in the browser uses. Conversations are those of the console."""

    async def begin_session(self, session: str, user: str, expires_at: float) -> None:
        """Store a session of a user; the oldest ones of that user end if there are many."""
        ...

    async def user_of(self, session: str) -> str | None:
        """Return the user of a session that has not expired; None if there is none."""
        ...

    async def end_session(self, session: str) -> None:
        """End a session."""
        ...

    async def overview(self, user: str) -> Overview:
        """Return the conversations of a user."""
        ...

    async def turns(self, user: str, thread: str) -> Sequence[tuple[str, str]]:
        """Return the newest turns of a conversation, oldest first: `user` or `assistant`, and the text."""
        ...

    async def rename(self, user: str, thread: str, title: str) -> bool:
        """Give a conversation a title; return False if the user has no such conversation."""
        ...

    async def forget(self, user: str, thread: str) -> bool:
        """Delete the texts of a conversation; return False, without effect, if a question in it is open."""
        ...
