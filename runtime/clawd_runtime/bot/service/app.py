"""Assembly of the bot from its settings, credentials and database."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import Any

import httpx
from starlette.applications import Starlette

from clawd_runtime.bot.access.current import CurrentAccess
from clawd_runtime.bot.access.gate import AccessGate
from clawd_runtime.bot.channels.base import Channel, ChannelContext
from clawd_runtime.bot.channels.registry import channel_class
from clawd_runtime.bot.credentials import Credentials
from clawd_runtime.bot.handling.backoff import backoff
from clawd_runtime.bot.handling.deliverer import Deliverer
from clawd_runtime.bot.handling.pacing import Pacing
from clawd_runtime.bot.handling.router import Router
from clawd_runtime.bot.handling.worker import Worker
from clawd_runtime.bot.models.answering import Answerer
from clawd_runtime.bot.models.completion import ModelClient, socket_mounts
from clawd_runtime.bot.models.fleet import MakeModel, ModelFleet
from clawd_runtime.bot.models.guarded import GuardedModel
from clawd_runtime.bot.models.routes import table_of
from clawd_runtime.bot.policy.current import CurrentPolicy
from clawd_runtime.bot.policy.enforcement import Enforcement
from clawd_runtime.bot.policy.file import Policy
from clawd_runtime.bot.policy.guard_model import CREDENTIAL as CLASSIFIER_KEY
from clawd_runtime.bot.policy.guard_model import HttpGuardModel
from clawd_runtime.bot.service.cluster import Cluster
from clawd_runtime.bot.service.engine_metrics import engine_metrics
from clawd_runtime.bot.service.http import application
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.service.readiness import Readiness
from clawd_runtime.bot.service.rejections import Rejections
from clawd_runtime.bot.service.routing import RouteKeeper
from clawd_runtime.bot.settings import BotSettings, ModelEndpoint
from clawd_runtime.bot.store.backends.database import OpenDatabase
from clawd_runtime.bot.store.pages import StoredPages
from clawd_runtime.bot.store.store import Store
from clawd_runtime.errors import StoreError

log = logging.getLogger(__name__)

# Telegram and Feishu repeat events for hours; an event that is purged could be answered a second time.
KEEP_SECONDS = 7 * 24 * 3600.0
PURGE_EVERY = 3600.0
PURGING = "purging"
WORKER_GRACE = 14.0
DELIVERY_GRACE = 8.0
STEADY_SECONDS = 60.0


class BotService:
    """The bot without its HTTP server. Between `start` and `stop` it processes inbox and outbox."""

    def __init__(self, settings: BotSettings, credentials: Credentials, database: OpenDatabase) -> None:
        self._database = database
        self.store = Store(database, limit=settings.rate_limit_per_minute)
        self.metrics = Metrics()
        self._http = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=32),
        )
        self._fleet = ModelFleet(table_of(settings.models), self._made(settings.answers_at_once, credentials))
        self._keeper = RouteKeeper(
            self._fleet,
            settings.models.routes,
            self.store,
            self.metrics,
            has_key=lambda model: credentials.get(_key_of(model)) is not None,
        )
        answerer = Answerer(self._fleet.pool, settings.system_prompt, settings.max_reply_tokens, self.metrics)
        answerer.observe = self._fleet.observe
        for model in self._fleet.models.values():
            self.metrics.model_state(model.name, model.state)
        self._rejections = Rejections(self.metrics.rejection)
        self._policy = CurrentPolicy(settings.policy, credentials.named(), self._policy_loaded)
        self._guard_model = HttpGuardModel(self._http, credentials.get(CLASSIFIER_KEY))
        self._access = CurrentAccess(settings.access, self.metrics.access_readable)
        enforcement = Enforcement(self._policy, self.metrics, self._guard_model)
        context = ChannelContext(
            self.store,
            self._http,
            credentials,
            settings.public_url,
            self._rejections,
            enforcement.outbound,
            StoredPages(database),
        )
        self._channels: dict[str, Channel] = {
            name: channel_class(name)(part, context) for name, part in settings.channels.items()
        }
        self.metrics.expect(self._channels)
        self._pacing = Pacing(self.store)
        self._worker = Worker(
            self.store,
            AccessGate(
                Router(settings.language, settings.rate_limit_per_minute),
                self._access,
                self.store,
                self._fleet.exhaust,
            ),
            answerer,
            self._channels,
            self.metrics,
            enforcement,
            pacing=self._pacing,
        )
        self._deliverer = Deliverer(self.store, self._channels, self.metrics, pacing=self._pacing)
        self.store.on_message = self._worker.add
        self.store.on_command = self._worker.add_commands
        self.store.on_interruption = self._worker.interrupt
        self.store.joining = frozenset(name for name, each in self._channels.items() if each.is_chat)
        self.store.on_reply = self._deliverer.add
        self._cluster = Cluster(
            self.store, database.presence, self._worker, self._deliverer, tuple(self._channels)
        )
        self._background: list[asyncio.Task[None]] = []
        self._membership: asyncio.Task[None] | None = None

    def http_application(self) -> Starlette:
        """Return the ASGI application."""
        routes = [route for channel in self._channels.values() for route in channel.routes()]
        routes.extend(engine_metrics(self._clients))
        routes.append(self._keeper.route())
        readiness = Readiness(
            self.store.heartbeat, lambda: [client.alive for client in self._clients().values()]
        )
        return application(routes, self.store, self.metrics, readiness, self._rejections)

    async def start(self) -> None:
        """Resume the unfinished work of an earlier run, and start to receive."""
        await self._cluster.start()
        self._membership = asyncio.create_task(self._cluster.run())
        self._begin(self._purge_regularly())
        self._begin(self._policy.keep_current())
        self._begin(self._access.keep_current())
        self._begin(self._keeper.run())
        for channel in self._channels.values():
            self._begin(_keep_running(channel))

    async def stop(self) -> None:
        """Stop receiving and finish what can be finished soon; leave the rest to others or the next run."""
        await _cancelled(self._background)
        await self._cluster.begin_leaving(self._worker.begin_nothing())
        await self._worker.stop(WORKER_GRACE)
        await self._deliverer.stop(DELIVERY_GRACE)
        await self._pacing.close()
        for channel in self._channels.values():
            await channel.close()
        await _cancelled([self._membership] if self._membership else [])
        await self._cluster.leave()

    async def close(self) -> None:
        """Close connections and database; call after the HTTP server has ended."""
        await self._fleet.close()
        await self._http.aclose()
        await self._guard_model.close()
        await asyncio.to_thread(self._database.close)

    def _policy_loaded(self, policy: Policy | None) -> None:
        if policy is None:
            self.metrics.policy_invalid()
        else:
            self.metrics.policy(policy.version, len(policy.words))

    def _clients(self) -> dict[str, ModelClient]:
        return {name: model.client for name, model in self._fleet.models.items()}

    def _made(self, places: int, credentials: Credentials) -> MakeModel:
        """Return what makes a model; an engine on this host gets a client of its own for its socket."""

        def make(name: str, endpoint: ModelEndpoint) -> GuardedModel:
            own = None
            if mounts := socket_mounts(((name, endpoint),)):
                own = httpx.AsyncClient(mounts=mounts, verify=False, trust_env=False)  # noqa: S501 - no TLS
            client = ModelClient(name, endpoint, own or self._http, credentials.get(_key_of(name)))
            at_once = endpoint.answers_at_once or places
            return GuardedModel(client, at_once, endpoint.policy.policy(), own.aclose if own else None)

        return make

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._background.append(asyncio.create_task(work))

    async def _purge_regularly(self) -> None:
        while True:
            try:
                if await self.store.leads(PURGING):
                    removed = await self.store.purge(KEEP_SECONDS)
                    log.info("purged %d rows", removed)
            except StoreError as fault:
                log.error("%s", fault)
            await asyncio.sleep(PURGE_EVERY)


def _key_of(model: str) -> str:
    return f"model-{model}-api-key"


async def _cancelled(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_running(channel: Channel) -> None:
    """Run a channel's background work; restart it with a growing delay when it fails."""
    failures = 0
    while True:
        started = time.monotonic()
        try:
            await channel.run()
        except Exception:
            log.exception("internal error: background work of channel %s failed", channel.name)
        else:
            return
        failures = 1 if time.monotonic() - started > STEADY_SECONDS else failures + 1
        await asyncio.sleep(backoff(failures))
