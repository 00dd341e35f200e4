"""The parameters of the chat protocol that a server accepts, learned from its refusals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from clawd_runtime.bot.models.provider_errors import ProviderError
from clawd_runtime.bot.values import ConversationKey

SYSTEM_ROLE = "the system role"


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message of a prompt."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True)
class RequestOrigin:
    """Digests that name a conversation and a user, by which an engine keeps states and lets users take turns.

    They are made of ids of a platform, and are sent to engines on this host only.
    """

    conversation: str
    user: str

    @classmethod
    def of(cls, conversation: ConversationKey, user: str) -> RequestOrigin:
        """Return the origin of a message of `user` in `conversation`."""
        names = (conversation.channel, conversation.chat, conversation.thread)
        return cls(_digest("conversation", *names), _digest("user", conversation.channel, user))


@dataclass(frozen=True, slots=True)
class Dialect:
    """The form of a request that a server accepts.

    `length` is the name of the parameter for the maximum length of a reply; `None` if the server has none.
    With `origin`, requests name their conversation and their user.
    """

    length: Literal["max_tokens", "max_completion_tokens"] | None = "max_tokens"
    temperature: float | None = None
    stream: bool = True
    usage: bool = False
    system: bool = True
    origin: bool = False

    def request(
        self,
        model: str,
        messages: Sequence[ChatMessage],
        max_tokens: int,
        origin: RequestOrigin | None = None,
    ) -> dict[str, Any]:
        """Return the body of a chat request."""
        accepted = messages if self.system else _without_system(messages)
        return {
            "model": model,
            "messages": [{"role": message.role, "content": message.content} for message in accepted],
            **({self.length: max_tokens} if self.length else {}),
            **({"stream": True} if self.stream else {}),
            **({"stream_options": {"include_usage": True}} if self.usage and self.stream else {}),
            **({} if self.temperature is None else {"temperature": self.temperature}),
            **(
                {"prompt_cache_key": origin.conversation, "user": origin.user}
                if origin is not None and self.origin
                else {}
            ),
        }

    def sent(self) -> tuple[str, ...]:
        """Return the optional parameters of a request, those most often refused first."""
        names = (
            self.length,
            "prompt_cache_key" if self.origin else None,
            None if self.temperature is None else "temperature",
            "stream_options" if self.usage and self.stream else None,
            "stream" if self.stream else None,
        )
        return tuple(name for name in names if name)

    def after(self, error: ProviderError) -> tuple[str, Dialect] | None:
        """Return the refused parameter and the dialect without it; `None` if the error names none."""
        for name in error.parameters(self.sent()):
            return name, self._without(name, error)
        if self.system and error.about_system_role:
            return SYSTEM_ROLE, replace(self, system=False)
        return None

    def _without(self, name: str, error: ProviderError) -> Dialect:
        match name:
            case "max_tokens" if _renamed(error):
                return replace(self, length="max_completion_tokens")
            case "max_tokens" | "max_completion_tokens":
                return replace(self, length=None)
            case "temperature":
                return replace(self, temperature=None)
            case "prompt_cache_key":
                return replace(self, origin=False)
            case "stream_options":
                return replace(self, usage=False)
            case _:
                return replace(self, stream=False)


def _digest(*names: str) -> str:
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:32]


def _renamed(error: ProviderError) -> bool:
    """Return whether `max_tokens` itself is refused, not its value."""
    return error.mentions("max_completion_tokens") or "unsupported_parameter" in error.codes


def _without_system(messages: Sequence[ChatMessage]) -> Sequence[ChatMessage]:
    """Return the messages with the system prompt at the beginning of the first other message."""
    first, *rest = messages
    if first.role != "system" or not rest:
        return messages
    return (replace(rest[0], content=f"{first.content}\n\n{rest[0].content}"), *rest[1:])
