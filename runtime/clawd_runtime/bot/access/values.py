"""The values of access: roles, senders of messages, and changes to store with a decision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from clawd_runtime.bot.values import ChatKind, ConversationKey, Inbound

Role = Literal["member", "admin", "owner"]
ROLES: tuple[Role, ...] = ("member", "admin", "owner")
"""All roles; each has the rights of those before it."""


def has_rank(role: Role, least: Role) -> bool:
    """Return whether `role` has the rights of `least`."""
    return ROLES.index(role) >= ROLES.index(least)


def highest(roles: list[Role]) -> Role | None:
    """Return the role with the most rights; None without any."""
    return max(roles, key=ROLES.index, default=None)


@dataclass(frozen=True, slots=True)
class Person:
    """The sender of a message, and its chat. `outside`: of another organisation than the bot's."""

    user: str
    conversation: ConversationKey
    chat_kind: ChatKind
    outside: bool = False
    departments: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        """Return the person in the form of inventories: `telegram:123`."""
        return f"{self.conversation.channel}:{self.user}"

    @property
    def group(self) -> str:
        """Return the group in the form of inventories; empty in a private chat."""
        chat = self.conversation
        return f"{chat.channel}:{chat.chat}" if self.chat_kind == "group" else ""


def person_of(inbound: Inbound, departments: frozenset[str] = frozenset()) -> Person:
    """Return who has sent a message."""
    return Person(inbound.user, inbound.conversation, inbound.chat_kind, inbound.outside, departments)


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """The tokens of one answer. `counted`: by the model's server; else estimated from the texts."""

    model: str
    prompt: int
    answer: int
    counted: bool = True


@dataclass(frozen=True, slots=True)
class UsageToday:
    """Tokens of prompts and answers since midnight: of a person, of a group, and of each model."""

    user: int = 0
    group: int = 0
    models: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PairingRequest:
    """A person's request for access. `digest` is that of the code, which is not stored.

    `issued` codes since `window_at` are counted, to limit them.
    """

    channel: str
    user: str
    digest: str
    conversation: ConversationKey
    language: str
    issued_at: float
    expires_at: float
    issued: int
    window_at: float


@dataclass(frozen=True, slots=True)
class Guesses:
    """Wrong codes that an administrator has entered since `window_at`."""

    count: int = 0
    window_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Grant:
    """Access that was granted by a code; `by` is the administrator in the form of inventories."""

    channel: str
    user: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class CodeIssued:
    """A request for access was made, or renewed with another code."""

    request: PairingRequest


@dataclass(frozen=True, slots=True)
class CodeApproved:
    """The code of a request was confirmed: the request becomes a grant, and its code is used up."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class CodeRefused:
    """A wrong code was entered by `channel` and `user`."""

    channel: str
    user: str
    guesses: Guesses


@dataclass(frozen=True, slots=True)
class AccessRevoked:
    """A granted access was withdrawn."""

    channel: str
    user: str


AccessChange = CodeIssued | CodeApproved | CodeRefused | AccessRevoked
