"""What the Bot API server knows: bots, chats, messages, updates that wait."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.standins.limits import Window
from tests.standins.telegram.text import found_entities
from tests.standins.telegram.wire import ApiError

DEFAULT_UPDATES = ("message", "edited_message", "callback_query", "my_chat_member")


@dataclass
class Chat:
    """A chat that the bot may know. `state` is "active", "blocked" (by the user) or "kicked"."""

    id: int
    type: str = "private"
    title: str = ""
    first_name: str = "Ada"
    username: str = ""
    state: str = "active"
    threads: set[int] = field(default_factory=set)
    closed_threads: set[int] = field(default_factory=set)

    def shown(self) -> dict[str, Any]:
        """Return the chat as the API shows it."""
        named = {"first_name": self.first_name} if self.type == "private" else {"title": self.title}
        forum = {"is_forum": True} if self.threads and self.type == "supergroup" else {}
        username = {"username": self.username} if self.username else {}
        return {"id": self.id, "type": self.type, **named, **username, **forum}


@dataclass(frozen=True)
class Update:
    """One update that waits until it is confirmed; `chat` orders those that a webhook gets."""

    id: int
    type: str
    payload: dict[str, Any]
    chat: int

    def body(self) -> dict[str, Any]:
        """Return the update as the API shows it."""
        return {"update_id": self.id, self.type: self.payload}


@dataclass(frozen=True)
class Webhook:
    """Where updates go. `certificate` is the uploaded PEM text."""

    url: str
    secret_token: str = ""
    certificate: str | None = None
    max_connections: int = 40
    ip_address: str = ""


@dataclass
class Limits:
    """How often a bot may send; a test may widen them. Source: core.telegram.org/bots/faq."""

    chat: Window = field(default_factory=lambda: Window(1, 1.0))
    group: Window = field(default_factory=lambda: Window(20, 60.0))
    all: Window = field(default_factory=lambda: Window(30, 1.0))

    def spend(self, chat: Chat, now: float) -> None:
        """Count one message, or raise 429."""
        windows = [(self.chat, chat.id), (self.all, "all")]
        if chat.type != "private":
            windows.append((self.group, chat.id))
        wait = max(window.wait(key, now) for window, key in windows)
        if wait > 0:
            raise ApiError.flood(max(1, int(wait + 0.999)))
        for window, key in windows:
            window.add(key, now)


@dataclass
class Bot:
    """One bot: the account behind one token."""

    token: str
    username: str = "clawd_test_bot"
    name: str = "Clawd"
    privacy: bool = True
    clock: Callable[[], float] = time.time
    chats: dict[int, Chat] = field(default_factory=dict)
    messages: dict[tuple[int, int], dict[str, Any]] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    commands: list[dict[str, str]] = field(default_factory=list)
    drafts: dict[tuple[int, int], str] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    allowed_updates: tuple[str, ...] = DEFAULT_UPDATES
    webhook: Webhook | None = None
    last_error: tuple[int, str] | None = None
    queue: deque[Update] = field(default_factory=deque)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    next_update: int = 870_000_001
    next_message: int = 1

    @property
    def id(self) -> int:
        """Return the number before the token's colon."""
        return int(self.token.partition(":")[0])

    def me(self) -> dict[str, Any]:
        """Return the bot as `getMe` shows it."""
        return {
            **self.as_user(),
            "can_join_groups": True,
            "can_read_all_group_messages": not self.privacy,
            "supports_inline_queries": False,
            "can_connect_to_business": False,
            "has_main_web_app": False,
        }

    def as_user(self) -> dict[str, Any]:
        """Return the bot as the sender of a message."""
        return {"id": self.id, "is_bot": True, "first_name": self.name, "username": self.username}

    def message(
        self, chat: Chat, sender: dict[str, Any], text: str | None, extra: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Store a new message and return it as the API shows it."""
        shown: dict[str, Any] = {
            "message_id": self.next_message,
            "from": sender,
            "chat": chat.shown(),
            "date": int(self.clock()),
        }
        if text is not None:
            shown["text"] = text
            if entities := found_entities(text):
                shown["entities"] = entities
        shown |= extra or {}
        self.next_message += 1
        self.messages[chat.id, shown["message_id"]] = shown
        return shown

    def sees(self, message: dict[str, Any]) -> bool:
        """Return whether a group message reaches the bot (core.telegram.org/bots/features#privacy-mode)."""
        if message["chat"]["type"] == "private" or not self.privacy:
            return True
        if message.get("reply_to_message", {}).get("from", {}).get("id") == self.id:
            return True
        named = f"@{self.username}".lower()
        marked = [
            (entity["type"], _cut(message["text"], entity).lower()) for entity in message.get("entities", [])
        ]
        return any(
            (kind == "mention" and part == named)
            or (kind == "bot_command" and (part.endswith(named) or "@" not in part))
            for kind, part in marked
        )

    def enqueue(self, kind: str, payload: dict[str, Any], chat: int) -> Update | None:
        """Queue an update; return `None` when the bot did not ask for its kind."""
        if kind not in self.allowed_updates:
            return None
        update = Update(self.next_update, kind, payload, chat)
        self.next_update += 1
        self.queue.append(update)
        self.woken.set()
        return update

    def ask_for(self, kinds: list[str]) -> None:
        """Queue only updates of these kinds from now on; none means the usual ones."""
        self.allowed_updates = tuple(kinds) or DEFAULT_UPDATES

    def forget(self, update: Update) -> None:
        """Remove an accepted update."""
        if update in self.queue:
            self.queue.remove(update)


def _cut(text: str, entity: dict[str, Any]) -> str:
    raw = text.encode("utf-16-le")[2 * entity["offset"] : 2 * (entity["offset"] + entity["length"])]
    return raw.decode("utf-16-le")
