"""What the Feishu open platform knows: one app, its tokens, chats and messages."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.standins.feishu.card_entities import CardEntities, entity_in
from tests.standins.feishu.errors import ApiError
from tests.standins.limits import Window

__all__ = ["ApiError"]

TOKEN_SECONDS = 7200
RENEWED_BELOW_SECONDS = 1800
UUID_SECONDS = 3600


@dataclass(frozen=True)
class Credentials:
    """What the developer console shows for the app. Empty `encrypt_key`: events come as plain JSON."""

    app_id: str = "cli_standin00000001"
    app_secret: str = "app-secret"
    encrypt_key: str = "encrypt-key"
    verification_token: str = "verification-token"


@dataclass
class Chat:
    """A chat with the bot. `state`: "active", "left" (the bot is not in it), "unavailable" (to the user)."""

    id: str
    type: str
    user: str = ""
    state: str = "active"


@dataclass
class Token:
    """A tenant access token and when it ends."""

    value: str
    expires: float


@dataclass
class Limits:
    """How often the app may send; a test may widen them."""

    receiver: Window = field(default_factory=lambda: Window(5, 1.0))
    second: Window = field(default_factory=lambda: Window(50, 1.0))
    minute: Window = field(default_factory=lambda: Window(1000, 60.0))


@dataclass
class Platform:
    """The state of the stand-in."""

    credentials: Credentials
    clock: Callable[[], float] = time.time
    bot_open_id: str = "ou_standin_bot_0000000000000000"
    bot_name: str = "Clawd"
    tenant_key: str = "736588c9260f175e"
    group_messages: bool = False
    limits: Limits = field(default_factory=Limits)
    tokens: list[Token] = field(default_factory=list)
    chats: dict[str, Chat] = field(default_factory=dict)
    messages: dict[str, dict[str, Any]] = field(default_factory=dict)
    recalled: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    may_react: bool = True
    reactions: dict[tuple[str, str], str] = field(default_factory=dict)
    sent: list[dict[str, Any]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    uuids: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)
    cards: CardEntities = field(init=False)

    def __post_init__(self) -> None:
        self.cards = CardEntities(lambda: self.clock(), self.spend_call)

    def issue_token(self) -> Token:
        """Return the newest token while it has half an hour left, else a new one; both are valid then."""
        now = self.clock()
        if not self.tokens or self.tokens[-1].expires - now < RENEWED_BELOW_SECONDS:
            self.tokens.append(Token(f"t-{secrets.token_hex(20)}", now + TOKEN_SECONDS))
        return self.tokens[-1]

    def accepts(self, token: str) -> bool:
        """Return whether `token` was issued and has not expired."""
        now = self.clock()
        return any(each.value == token and each.expires > now for each in self.tokens)

    def chat_with(self, user: str) -> Chat:
        """Return the private chat of a user, created on first use."""
        found = next((chat for chat in self.chats.values() if chat.user == user), None)
        return found or self.add_chat(Chat(f"oc_{secrets.token_hex(16)}", "p2p", user))

    def add_chat(self, chat: Chat) -> Chat:
        """Add a chat."""
        self.chats[chat.id] = chat
        return chat

    def group(self, chat_id: str) -> Chat:
        """Return the group of that id, created on first use."""
        return self.chats.get(chat_id) or self.add_chat(Chat(chat_id, "group"))

    def remembered(self, uuid: str) -> dict[str, Any] | None:
        """Return the message that was sent under `uuid` within the last hour."""
        if uuid not in self.uuids or self.uuids[uuid][0] <= self.clock() - UUID_SECONDS:
            return None
        return self.uuids[uuid][1]

    def spend(self, chat: Chat) -> None:
        """Count one message to `chat`, or refuse it."""
        now = self.clock()
        self._refuse_beyond_limits("messages", now)
        if self.limits.receiver.wait(chat.id, now) > 0:
            raise ApiError(230020, "This operation triggers the frequency limit., ext=chat rate limit.")
        self._count("messages", now)
        self.limits.receiver.add(chat.id, now)

    def spend_call(self, endpoint: str) -> None:
        """Count one call of another endpoint, or refuse it."""
        now = self.clock()
        self._refuse_beyond_limits(endpoint, now)
        self._count(endpoint, now)

    def _refuse_beyond_limits(self, endpoint: str, now: float) -> None:
        for window, count in ((self.limits.second, 50), (self.limits.minute, 1000)):
            if (wait := window.wait(endpoint, now)) > 0:
                headers = {"x-ogw-ratelimit-limit": str(count), "x-ogw-ratelimit-reset": str(int(wait) + 1)}
                raise ApiError(99991400, "request trigger frequency limit", status=429, headers=headers)

    def _count(self, endpoint: str, now: float) -> None:
        self.limits.second.add(endpoint, now)
        self.limits.minute.add(endpoint, now)

    def send(
        self, chat: Chat, msg_type: str, content: str, parent: dict[str, Any] | None, *, thread: bool
    ) -> dict[str, Any]:
        """Store a message of the bot and return it as the API shows it."""
        now = str(int(self.clock() * 1000))
        links = {}
        if parent:
            root = parent.get("root_id") or parent["message_id"]
            links = {"root_id": root, "parent_id": parent["message_id"]}
            if thread or parent.get("thread_id"):
                links["thread_id"] = parent.get("thread_id") or f"omt_{secrets.token_hex(8)}"
        message_id = f"om_{secrets.token_hex(16)}"
        if (card_id := entity_in(msg_type, content)) is not None:
            self.cards.send(card_id, message_id)
        message = {
            "message_id": message_id,
            **links,
            "msg_type": msg_type,
            "create_time": now,
            "update_time": now,
            "deleted": False,
            "updated": False,
            "chat_id": chat.id,
            "sender": {
                "id": self.credentials.app_id,
                "id_type": "app_id",
                "sender_type": "app",
                "tenant_key": self.tenant_key,
            },
            "body": {"content": content},
        }
        self.messages[message["message_id"]] = message
        self.sent.append(message)
        return message
