"""`setWebhook`, and delivery to the webhook (Client.cpp and WebhookActor.cpp of the platform's server).

Messages of one chat are delivered in order, one at a time; chats do not wait for each other. An answer other
than 2xx is repeated: at once, then after 2, 4, 8 … up to 60–120 seconds, or as the header Retry-After says.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import random
import re
import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography import x509

from tests.standins.outbound import Reach, Target, is_address, trust
from tests.standins.telegram.connections import NewConnections
from tests.standins.telegram.methods import METHODS
from tests.standins.telegram.state import Bot, Update, Webhook
from tests.standins.telegram.wire import ApiError, Call, as_params

PORTS = frozenset({443, 80, 88, 8443})
SECRET = re.compile(r"[A-Za-z0-9_-]*")
LARGEST_CERTIFICATE = 3 << 20
ANSWER_SECONDS = 50.0
LONGEST_DELAY = 60
LONGEST_RETRY_AFTER = 3600


@dataclass(frozen=True)
class Rules:
    """Where a webhook may stand. The real platform's rules, unless a test must loosen them.

    `extra_ports` and `reserved_addresses` (10.x, 127.x …) exist for hosts that only a test can reach;
    `pace` shortens the pauses between repetitions.
    """

    reach: Reach = field(default_factory=Reach)
    extra_ports: frozenset[int] = frozenset()
    reserved_addresses: bool = False
    pace: float = 1.0


@dataclass(frozen=True)
class Attempt:
    """One delivery: `error` is empty when it was taken."""

    update_id: int
    at: float
    status: int | None
    error: str


class WebhookSender:
    """The webhook of one bot."""

    def __init__(self, bot: Bot, rules: Rules) -> None:
        self._bot = bot
        self._rules = rules
        self._next_set = 0.0
        self._runner: asyncio.Task[None] | None = None
        self.attempts: list[Attempt] = []

    def set(self, call: Call) -> str:
        """Set or, with an empty address, remove the webhook; return the platform's description."""
        if not call.text("url") or call.method == "deletewebhook":
            return self._delete(call)
        now = time.monotonic()
        if now < self._next_set:
            raise ApiError.flood(1)
        self._next_set = now + 1.0
        webhook = self._checked(call)
        if call.flag("drop_pending_updates"):
            self._bot.queue.clear()
        if call.text("allowed_updates"):
            self._bot.ask_for(call.json("allowed_updates") or [])
        if webhook == self._bot.webhook and not webhook.certificate:
            return "Webhook is already set"
        self.stop()
        self._bot.webhook, self._bot.last_error = webhook, None
        self._runner = asyncio.get_running_loop().create_task(_Delivery(self, self._bot, webhook).run())
        return "Webhook was set"

    @property
    def rules(self) -> Rules:
        """Return the rules of its address."""
        return self._rules

    def stop(self) -> None:
        """Stop delivering."""
        if self._runner:
            self._runner.cancel()
            self._runner = None

    def _delete(self, call: Call) -> str:
        if call.flag("drop_pending_updates"):
            self._bot.queue.clear()
        was_set = self._bot.webhook is not None
        self.stop()
        self._bot.webhook = None
        return "Webhook was deleted" if was_set else "Webhook is already deleted"

    def _checked(self, call: Call) -> Webhook:
        secret = call.text("secret_token")
        if len(secret) > 256:
            raise ApiError(400, "Bad Request: secret token is too long")
        if not SECRET.fullmatch(secret):
            raise ApiError(400, "Bad Request: secret token contains unallowed characters")
        target = _parsed(call.text("url"), self._rules.reach)
        if target.url.scheme != "https":
            raise _bad("An HTTPS URL must be provided for webhook")
        if (target.url.port or 443) not in PORTS | self._rules.extra_ports:
            raise _bad("Webhook can be set up only on ports 80, 88, 443 or 8443")
        address = self._address(call.text("ip_address") or target.address)
        connections = min(max(call.integer("max_connections", 40), 1), 100)
        return Webhook(call.text("url"), secret, _certificate(call), connections, address)

    def _address(self, host: str) -> str:
        try:
            address = host if is_address(host) else socket.gethostbyname(host)
        except OSError:
            raise _bad("Failed to resolve host: Name or service not known") from None
        parsed = ipaddress.ip_address(address)
        if parsed.version != 4:
            raise _bad("IPv6-only addresses are not allowed")
        if not parsed.is_global and not self._rules.reserved_addresses:
            raise _bad(f"IP address {address} is reserved")
        return address


class _Delivery:
    """One setting of the webhook, until it is changed."""

    def __init__(self, sender: WebhookSender, bot: Bot, webhook: Webhook) -> None:
        self._sender = sender
        self._bot = bot
        self._webhook = webhook
        self._target = Target.of(webhook.url, sender.rules.reach)
        self._slots = asyncio.Semaphore(webhook.max_connections)
        self._connections = NewConnections()

    def _answered_with(self, body: bytes) -> None:
        """Carry out the method call in the answer, if there is one; ignore its result."""
        try:
            given = json.loads(body)
            call = Call(given.pop("method").lower(), as_params(given))
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        record: dict[str, Any] = {"method": call.method, "params": call.params, "at": self._bot.clock()}
        self._bot.calls.append(record | {"in_answer": True})
        with suppress(ApiError, KeyError):
            METHODS[call.method](self._bot, call)

    async def run(self) -> None:
        """Give every chat that has updates a worker of its own."""
        verify = trust(self._sender.rules.reach.ca, self._webhook.certificate)
        async with (
            httpx.AsyncClient(verify=verify, timeout=ANSWER_SECONDS, trust_env=False) as client,
            asyncio.TaskGroup() as group,
        ):
            busy: dict[int, asyncio.Task[None]] = {}
            while True:
                self._bot.woken.clear()
                for chat in {update.chat for update in self._bot.queue}:
                    if chat not in busy or busy[chat].done():
                        busy[chat] = group.create_task(self._chat(client, chat))
                await self._bot.woken.wait()

    async def _chat(self, client: httpx.AsyncClient, chat: int) -> None:
        while update := next((each for each in self._bot.queue if each.chat == chat), None):
            delay = 1
            failures = 0
            while (retry_after := await self._deliver(client, update)) is not None:
                if retry_after:
                    await asyncio.sleep(retry_after * self._sender.rules.pace)
                elif failures:
                    delay = min(random.randint(LONGEST_DELAY, 2 * LONGEST_DELAY), delay * 2)
                    await asyncio.sleep(delay * self._sender.rules.pace)
                failures += 1
            self._bot.forget(update)

    async def _deliver(self, client: httpx.AsyncClient, update: Update) -> int | None:
        """Return `None` when it was accepted, else the seconds of Retry-After (0 without)."""
        async with self._slots:
            status, error, retry_after = await self.post(client, update.body(), self._webhook.secret_token)
        self._sender.attempts.append(Attempt(update.id, self._bot.clock(), status, error))
        if not error:
            self._connections.taken()
            return None
        self._bot.last_error = (int(self._bot.clock()), error)
        return retry_after

    async def post(
        self, client: httpx.AsyncClient, body: dict[str, Any], secret: str
    ) -> tuple[int | None, str, int]:
        """Return HTTP status, error as `getWebhookInfo` shows it, and Retry-After."""
        if is_address(self._target.host) and self._webhook.certificate is None:
            return None, "SSL error {Hostname mismatch: an address needs a certificate of its own}", 0
        headers = {"X-Telegram-Bot-Api-Secret-Token": secret} if secret else {}
        raw = json.dumps(body, ensure_ascii=False).encode()
        try:
            request = self._target.request(client, raw, headers)
            request.extensions["trace"] = self._connections.trace
            response = await client.send(request)
        except httpx.ConnectError as broken:
            return None, f"SSL error {{{broken}}}" if "SSL" in str(broken) else "Connection refused", 0
        except httpx.TimeoutException:
            return None, "Read timeout expired", 0
        except httpx.HTTPError:
            return None, "Webhook connection closed", 0
        if response.is_success:
            self._answered_with(response.content)
            return response.status_code, "", 0
        wait = response.headers.get("retry-after", "")
        said = f"Wrong response from the webhook: {response.status_code} {response.reason_phrase}"
        return response.status_code, said, min(int(wait), LONGEST_RETRY_AFTER) if wait.isdigit() else 0


async def forge(sender: WebhookSender, bot: Bot, body: dict[str, Any], secret: str) -> int | None:
    """Post `body` to the webhook as an attacker would, with `secret`; return the HTTP status."""
    if bot.webhook is None:
        raise ApiError(400, "stand-in: no webhook is set")
    delivery = _Delivery(sender, bot, bot.webhook)
    verify = trust(sender.rules.reach.ca, bot.webhook.certificate)
    async with httpx.AsyncClient(verify=verify, timeout=ANSWER_SECONDS, trust_env=False) as client:
        status, _, _ = await delivery.post(client, body, secret)
    return status


def _certificate(call: Call) -> str | None:
    raw = call.file("certificate")
    if raw is None:
        if call.text("certificate"):
            raise ApiError(400, "Bad Request: certificate must be uploaded as a file")
        return None
    if len(raw) > LARGEST_CERTIFICATE:
        raise ApiError(400, f"Bad Request: certificate size is too big ({len(raw)} bytes)")
    try:
        x509.load_pem_x509_certificates(raw)
        return raw.decode("ascii")
    except ValueError:
        raise _bad("Can't create an SSL context: the certificate is not PEM") from None


def _parsed(url: str, reach: Reach) -> Target:
    try:
        target = Target.of(url if "://" in url else f"https://{url}", reach)
    except httpx.InvalidURL:
        raise ApiError(400, "Bad Request: invalid webhook URL specified") from None
    if not target.host:
        raise ApiError(400, "Bad Request: invalid webhook URL specified")
    return target


def _bad(why: str) -> ApiError:
    return ApiError(400, f"Bad Request: bad webhook: {why}")
