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
