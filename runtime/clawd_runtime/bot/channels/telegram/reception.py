"""Reception of updates: by a webhook that is kept registered, or by continuous long polling."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clawd_runtime.bot.channels.base import DeliveryUnknown, RetryLater
from clawd_runtime.bot.channels.telegram.api import TelegramApi, TelegramRefusal
from clawd_runtime.bot.channels.telegram.updates import (
    ALLOWED_UPDATES,
    TelegramIdentity,
    is_update,
    read_update,
)
from clawd_runtime.bot.foreign_json import Foreign, ForeignJsonError, ForeignName, ForeignText, Int64, read_as
from clawd_runtime.bot.handling.backoff import backoff
from clawd_runtime.bot.ports import Inbox
from clawd_runtime.bot.service.rejections import Rejections
from clawd_runtime.bot.text.messages import CATALOGUE
from clawd_runtime.bot.values import Inbound
from clawd_runtime.errors import ChannelError, RuntimeFault, StoreError, StoreRefused

log = logging.getLogger(__name__)

POLL_SECONDS = 50
POLL_GRACE = 15.0
LONGEST_PAUSE = 30.0
# A poll that ends sooner without updates was not held open; the pause after it grows between these limits.
SHORTEST_POLL = 1.0
SHORTEST_REST = 0.25
LONGEST_REST = 10.0
CHECK_EVERY = 300.0
CERTIFICATE_EVERY = 5.0
# Telegram has one webhook and one poll at a time; how soon another bot follows when the leading one is gone.
ROLE = "telegram"
FOLLOW_SECONDS = 2.0


class BotUser(Foreign):
    """The bot's user, as `getMe` returns it."""

    id: Int64
    username: ForeignName


class WebhookInfo(Foreign):
    """The state of the webhook."""

    url: ForeignText = ""
    allowed_updates: list[ForeignName] | None = None
    max_connections: Int64 | None = None
    has_custom_certificate: bool = False
    last_error_date: Int64 = 0
    last_error_message: ForeignText = ""


class Reception(ABC):
    """Base class that fetches the bot's identity, then receives. `identity` is None until then."""

    def __init__(self, api: TelegramApi, inbox: Inbox) -> None:
        self.api = api
        self.inbox = inbox
        self.identity: TelegramIdentity | None = None

    async def run(self) -> None:
        """Receive until cancelled, and retry after errors of Telegram, the network or the disk."""
        failures = 0
        while True:
            try:
                if self.identity is None:
                    self.identity = await self._introduce()
                if await self.leads():
                    await self.step(self.identity)
                else:
                    await asyncio.sleep(FOLLOW_SECONDS)
                failures = 0
            except (ChannelError, StoreError) as fault:
                failures += 1
                pause = _pause(fault, failures)
                log.warning("%s; retrying in %.0f s", fault, pause)
                await asyncio.sleep(pause)

    async def leads(self) -> bool:
        """Return whether this bot, of those on the database, receives for all."""
        return await self.inbox.leads(ROLE)

    @abstractmethod
    async def step(self, me: TelegramIdentity) -> None:
        """Do one round, on the bot that `leads`; raise `ChannelError` to have it repeated with a delay."""

    async def _introduce(self) -> TelegramIdentity:
        try:
            user = read_as(BotUser, await self.api.call("getMe"))
        except ForeignJsonError as problem:
            raise ChannelError(f"Telegram getMe: not the user of a bot: {problem}") from None
        me = TelegramIdentity(user.id, user.username)
        log.info("Telegram: the bot is @%s", me.username)
        for language, words in CATALOGUE.items():
            commands = [
                {"command": "new", "description": words.command_new},
                {"command": "stop", "description": words.command_stop},
                {"command": "usage", "description": words.command_usage},
                {"command": "help", "description": words.command_help},
            ]
            of_language = {} if language == "en" else {"language_code": language}
            try:
                await self.api.call("setMyCommands", {"commands": commands, **of_language})
            except ChannelError as fault:
                log.info("%s; the menu of commands is unchanged", fault)
        return me


class RegisteredElsewhere(Reception):
    """Reception by a webhook that the bot of another host keeps registered."""

    async def leads(self) -> bool:
        """Return True: it does nothing that only one bot may do."""
        return True

    async def step(self, me: TelegramIdentity) -> None:
        """See `Reception.step`."""
        await asyncio.sleep(CHECK_EVERY)


class WebhookRegistration(Reception):
    """Reception by a webhook, registered at the start and whenever Telegram or the certificate differs."""

    def __init__(
        self,
        api: TelegramApi,
        inbox: Inbox,
        *,
        url: str,
        secret_token: str,
        max_connections: int,
        certificate: Path | None,
    ) -> None:
        super().__init__(api, inbox)
        self._url = url
        self._secret_token = secret_token
        self._max_connections = max_connections
        self._certificate = certificate
        self._registered: str | None = None
        self._last_error = 0

    async def step(self, me: TelegramIdentity) -> None:
        """See `Reception.step`."""
        certificate = self._read_certificate()
        if self._registered != _digest(certificate) or not await self._stands():
            await self._register(certificate)
            self._registered = _digest(certificate)
        # Telegram delivers nothing until it has the new certificate, so the file is checked often.
        due = time.monotonic() + CHECK_EVERY
        while time.monotonic() < due and _digest(self._read_certificate()) == self._registered:
            await asyncio.sleep(min(CHECK_EVERY, CERTIFICATE_EVERY))

    async def _register(self, certificate: bytes | None) -> None:
        await self.api.call(
            "setWebhook",
            {
                "url": self._url,
                "secret_token": self._secret_token,
                "allowed_updates": ALLOWED_UPDATES,
                "max_connections": self._max_connections,
            },
            upload=("certificate", certificate) if certificate else None,
        )
        log.info("Telegram: webhook set to %s", self._url)

    async def _stands(self) -> bool:
        try:
            info = read_as(WebhookInfo, await self.api.call("getWebhookInfo"))
        except ForeignJsonError as problem:
            raise ChannelError(f"Telegram getWebhookInfo: {problem}") from None
        if info.last_error_date > self._last_error:
            self._last_error = info.last_error_date
            log.warning("Telegram: cannot deliver to the webhook: %.300s", info.last_error_message)
        return (
            info.url == self._url
            and info.allowed_updates in (None, ALLOWED_UPDATES)
            and info.max_connections in (None, self._max_connections)
            and info.has_custom_certificate == (self._certificate is not None)
        )

    def _read_certificate(self) -> bytes | None:
        if self._certificate is None:
            return None
        try:
            return self._certificate.read_bytes()
        except OSError as error:
            raise ChannelError(f"cannot read {self._certificate} for upload: {error.strerror}") from None


def _digest(certificate: bytes | None) -> str:
    return hashlib.sha256(certificate or b"").hexdigest()


class Polling(Reception):
    """Reception by long polling. Its offset is stored together with the updates that it confirms."""

    def __init__(
        self, api: TelegramApi, bot_id: int, inbox: Inbox, rejections: Rejections | None = None
    ) -> None:
        super().__init__(api, inbox)
        self._rejections = rejections or Rejections()
        self._empty = 0
        self._offset_name = f"offset:{bot_id}"
        self._offset: int | None = None
        self._webhook_gone = False

    async def leads(self) -> bool:
        """See `Reception.leads`. While another bot leads, that bot advances the offset."""
        leads = await super().leads()
        if not leads:
            self._offset = None
        return leads

    async def step(self, me: TelegramIdentity) -> None:
        """See `Reception.step`."""
        if not self._webhook_gone:
            await self.api.call("deleteWebhook", {"drop_pending_updates": False})
            self._webhook_gone = True
        if self._offset is None:
            self._offset = await self._stored_offset()
        started = time.monotonic()
        updates = await self._poll(self._offset)
        if updates:
            offset = max(update["update_id"] for update in updates) + 1
            await self._store(self._readable(updates, me), offset)
            # Without this, a server that returns confirmed updates again would be polled in a tight loop.
            self._empty = 0 if offset > self._offset else self._empty + 1
            self._offset = max(offset, self._offset)
        else:
            self._empty += 1
        await self._rest(time.monotonic() - started)

    async def _rest(self, answered_after: float) -> None:
        """Pause with a growing delay when polls end immediately without updates.

        Otherwise a server that does not hold polls open would be called thousands of times a second.
        """
        if answered_after >= SHORTEST_POLL:
            self._empty = 0
        elif self._empty:
            await asyncio.sleep(min(LONGEST_REST, SHORTEST_REST * 2 ** min(self._empty - 1, 10)))

    async def _stored_offset(self) -> int:
        stored = await self.inbox.state("telegram", self._offset_name) or "0"
        return int(stored) if stored.isascii() and stored.isdecimal() and len(stored) < 18 else 0

    async def _store(self, inbounds: Sequence[Inbound], offset: int) -> None:
        """Store messages with the offset that confirms them.

        A message that the database refuses permanently does not block the others. If it refuses all of them,
        the database is the cause, and none is dropped.
        """
        state = {self._offset_name: str(offset)}
        try:
            await self.inbox.store_all(inbounds, "telegram", state)
            refused = []
        except StoreRefused:
            refused = [inbound for inbound in inbounds if not await self._is_taken(inbound)]
            if len(refused) == len(inbounds):
                raise
        for inbound in refused:
            message = f"Telegram: ignored message {inbound.message_id}: refused by the database"
            self._rejections.report("telegram", "refused by the database", message)
        if refused:
            await self.inbox.store_all((), "telegram", state)

    async def _is_taken(self, inbound: Inbound) -> bool:
        try:
            await self.inbox.store_all((inbound,), "telegram", {})
        except StoreRefused:
            return False
        return True

    async def _poll(self, offset: int) -> list[dict[str, Any]]:
        """Return the updates with a number, readable or not."""
        wanted: dict[str, Any] = {"timeout": POLL_SECONDS, "allowed_updates": ALLOWED_UPDATES}
        if offset:
            wanted["offset"] = offset
        try:
            # In addition to the client's timeout, which restarts with every byte received.
            async with asyncio.timeout(POLL_SECONDS + 2 * POLL_GRACE):
                updates = await self.api.call("getUpdates", wanted, seconds=POLL_SECONDS + POLL_GRACE)
        except TimeoutError:
            raise DeliveryUnknown("Telegram getUpdates: response not complete in time") from None
        except TelegramRefusal as refusal:
            # 409: a webhook was set in the meantime, or another bot polls with this token.
            self._webhook_gone = refusal.code != 409
            raise
        if not isinstance(updates, list):
            raise ChannelError("Telegram getUpdates: not a list of updates")
        known = [update for update in updates if is_update(update)]
        if len(known) < len(updates):
            self._rejections.report("telegram", "unreadable", "Telegram: ignored updates without a number")
            if not known:
                raise ChannelError("Telegram getUpdates: not a list of updates")
        return known

    def _readable(self, updates: Sequence[dict[str, Any]], me: TelegramIdentity) -> list[Inbound]:
        """Return the messages in updates; an unreadable one must not block those after it."""
        found = []
        for update in updates:
            try:
                inbound = read_update(update, me, time.time())
            except ForeignJsonError as problem:
                message = f"Telegram: ignored unreadable update {update['update_id']}: {problem}"
                self._rejections.report("telegram", "unreadable", message)
                continue
            except Exception:
                # Fetched again, the update would only block those after it.
                log.exception("internal error: Telegram: ignored update %d", update["update_id"])
                continue
            if inbound is not None:
                found.append(inbound)
        return found


def _pause(fault: RuntimeFault, failures: int) -> float:
    if isinstance(fault, RetryLater) and fault.after is not None:
        return fault.after
    return min(LONGEST_PAUSE, backoff(failures))
