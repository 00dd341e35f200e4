"""Events, and their delivery to the app's request address.

An event that is not answered with 200 within 3 seconds comes again after 15 seconds, 5 minutes, 1 hour and
6 hours. A new address is accepted when it answers a challenge within 1 second.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass
from typing import Any

import httpx

from tests.standins.feishu.envelope import Envelope, wrapped
from tests.standins.feishu.state import Platform
from tests.standins.outbound import Reach, Target, trust

ANSWER_SECONDS = 3.0
CHALLENGE_SECONDS = 1.0
PAUSES = (15.0, 300.0, 3600.0, 21600.0)


@dataclass(frozen=True)
class Attempt:
    """One delivery: `error` is empty when it was taken."""

    event_id: str
    at: float
    status: int | None
    error: str


def user_id(open_id: str) -> dict[str, str]:
    """Return the three ids of a person, as events show them."""
    tail = open_id.removeprefix("ou_")
    return {"union_id": f"on_{tail}", "user_id": tail[:8], "open_id": open_id}


def event_of(platform: Platform, message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as a version 2 event with a new id."""
    return {
        "schema": "2.0",
        "header": {
            "event_id": secrets.token_hex(16),
            "token": platform.credentials.verification_token,
            "create_time": str(int(platform.clock() * 1000)),
            "event_type": "im.message.receive_v1",
            "tenant_key": platform.tenant_key,
            "app_id": platform.credentials.app_id,
        },
        "event": message,
    }


def user_message(platform: Platform, given: dict[str, Any]) -> dict[str, Any]:
    """Add a message of a user, and return it as `event` of im.message.receive_v1.

    `given` may have text, user, chat_id (a group), mention_bot, mentions [{open_id, name}], msg_type,
    content, thread_id, parent_id. Mentions stand in the text as @_user_1, @_user_2 …; the bot comes first.
    """
    user = given.get("user", "ou_standin_user_000000000000000")
    chat = platform.group(given["chat_id"]) if "chat_id" in given else platform.chat_with(user)
    mentioned = [(each["open_id"], each["name"]) for each in given.get("mentions", [])]
    if given.get("mention_bot"):
        mentioned.insert(0, (platform.bot_open_id, platform.bot_name))
    mentions = [
        {"key": f"@_user_{number}", "id": user_id(who), "name": name, "tenant_key": platform.tenant_key}
        for number, (who, name) in enumerate(mentioned, 1)
    ]
    now = str(int(platform.clock() * 1000))
    optional: dict[str, Any] = {name: given[name] for name in ("thread_id", "parent_id") if name in given}
    message: dict[str, Any] = {
        "message_id": f"om_{secrets.token_hex(16)}",
        **optional,
        "create_time": now,
        "update_time": now,
        "chat_id": chat.id,
        "chat_type": chat.type,
        "message_type": given.get("msg_type", "text"),
        "content": given.get("content") or _text_content(given.get("text", ""), mentions),
    }
    if mentions:
        message["mentions"] = mentions
    platform.messages[message["message_id"]] = message
    sender = {"sender_id": user_id(user), "sender_type": "user", "tenant_key": platform.tenant_key}
    return {"sender": sender, "message": message}


def reaches_app(platform: Platform, event: dict[str, Any]) -> bool:
    """Return whether a message is delivered: of a group only mentions, unless the app may read all."""
    message = event["message"]
    if message["chat_type"] == "p2p" or platform.group_messages:
        return True
    if platform.bot_open_id in message["content"]:
        return True  # named in the content alone, as in rich texts
    return any(each["id"]["open_id"] == platform.bot_open_id for each in message.get("mentions", []))


class Delivery:
    """Brings events to the request address."""

    def __init__(self, platform: Platform, reach: Reach, pace: float = 1.0) -> None:
        self._platform = platform
        self._reach = reach
        self._pace = pace
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""
        self.events: dict[str, tuple[dict[str, Any], Envelope]] = {}
        self.attempts: list[Attempt] = []

    async def subscribe(self, url: str) -> str:
        """Challenge `url` and, when it answers rightly, deliver there; return the problem, or nothing."""
        challenge = secrets.token_hex(16)
        asked = {
            "challenge": challenge,
            "token": self._platform.credentials.verification_token,
            "type": "url_verification",
        }
        key = self._platform.credentials.encrypt_key
        unsigned = Envelope(wrapped(key, asked, self._platform.clock()).body, {})
        status, error, answer = await self._post(url, unsigned, CHALLENGE_SECONDS)
        if not error and _challenge_in(answer) != challenge:
            error = f"HTTP {status}, but not the challenge"
        self.url = self.url if error else url
        return error

    def push(self, event: dict[str, Any]) -> str:
        """Start delivering an event; return its id."""
        event_id: str = event["header"]["event_id"]
        envelope = wrapped(self._platform.credentials.encrypt_key, event, self._platform.clock())
        self.events[event_id] = (event, envelope)
        if self.url:
            task = asyncio.get_running_loop().create_task(self._until_taken(event_id, event))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return event_id

    async def once(self, envelope: Envelope) -> int | None:
        """Post an envelope once, unchanged; return the HTTP status."""
        if not self.url:
            raise ValueError("no webhook is set")
        status, _, _ = await self._post(self.url, envelope, ANSWER_SECONDS)
        return status

    def stop(self) -> None:
        """Stop delivering."""
        for task in tuple(self._tasks):
            task.cancel()

    async def _until_taken(self, event_id: str, event: dict[str, Any]) -> None:
        for pause in (0.0, *PAUSES):
            await asyncio.sleep(pause * self._pace)
            key, now = self._platform.credentials.encrypt_key, self._platform.clock()
            status, error, _ = await self._post(self.url, wrapped(key, event, now), ANSWER_SECONDS)
            self.attempts.append(Attempt(event_id, now, status, error))
            if not error:
                return

    async def _post(self, url: str, envelope: Envelope, seconds: float) -> tuple[int | None, str, bytes]:
        """Return HTTP status, the problem of the answer, and its body."""
        verify = trust(self._reach.ca)
        async with httpx.AsyncClient(verify=verify, timeout=seconds, trust_env=False) as client:
            request = Target.of(url, self._reach).request(client, envelope.body, envelope.headers)
            try:
                response = await asyncio.wait_for(client.send(request), seconds)
            except TimeoutError:
                return None, f"no answer within {seconds:g} s", b""
            except httpx.HTTPError as broken:
                return None, f"{type(broken).__name__}: {broken}", b""
        error = "" if response.status_code == 200 else f"HTTP {response.status_code}"
        return response.status_code, error, response.content


def _challenge_in(answer: bytes) -> object:
    try:
        parsed = json.loads(answer)
    except ValueError:
        return None
    return parsed.get("challenge") if isinstance(parsed, dict) else None


def _text_content(text: str, mentions: list[dict[str, Any]]) -> str:
    missing = [each["key"] for each in mentions if each["key"] not in text]
    return json.dumps({"text": " ".join([*missing, text])}, ensure_ascii=False)
