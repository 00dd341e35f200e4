"""The keeper of the routes: it reads the table again when its file changes, and shares verdicts with others.

A verdict about a model's entry in a version of the table is stored in the database, so every bot on it
follows the first one that has seen enough. It is deleted when the table is replaced: a later one may have
the same number.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from clawd_runtime.bot.models.fleet import ModelFleet
from clawd_runtime.bot.models.routes import DEFAULT, FALLBACK, RouteTable, load_routes
from clawd_runtime.bot.service.metrics import Metrics
from clawd_runtime.bot.store.store import Store
from clawd_runtime.bot.watched_file import WatchedFile
from clawd_runtime.errors import SettingsError, StoreError

log = logging.getLogger(__name__)

LOOK_EVERY = 1.0
# How often the verdicts of other bots are read while a model has a share.
AGREE_EVERY = 5.0
VERDICTS = "routes"
"""The name of verdicts in the table of the channels' values."""


class RouteKeeper:
    """Keeps `fleet` in agreement with `file` (None: the table never changes) and with the other bots.

    `has_key` returns whether the bot has started with an API key for a model.
    """

    def __init__(
        self,
        fleet: ModelFleet,
        file: Path | None,
        store: Store,
        metrics: Metrics,
        *,
        has_key: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self._fleet = fleet
        self._file = file
        self._store = store
        self._metrics = metrics
        self._has_key = has_key
        self._watched = WatchedFile(file)
        self._agree_at = 0.0
        self._outdated = file is not None
        """Whether verdicts of other tables may be stored."""
        self.problem = ""
        """Why the present file is not used; empty if it is."""
        self._show()

    async def run(self) -> None:
        """Keep the routes until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY)

    async def look(self) -> None:
        """Read the file if it changed, and the verdicts if they are due."""
        if self._file is not None and self._watched.has_changed():
            await self._read(self._file)
        now = asyncio.get_running_loop().time()
        if self._outdated:
            await self._forget()
        if any(self._fleet.table.shares.values()):
            for name, reason in self._fleet.objections().items():
                self._fleet.stop(name, reason)
                await self._announce(name, reason)
            if now >= self._agree_at:
                self._agree_at = now + AGREE_EVERY
                await self._agree()
        await self._fleet.close_idle()
        self._show()

    def route(self) -> BaseRoute:
        """Return the route `GET /routes`: the table as this bot uses it."""

        async def shown(_: Request) -> Response:
            return JSONResponse(self.view())

        return Route("/routes", shown)

    def view(self) -> dict[str, Any]:
        """Return the table as this bot uses it, and the state of its models."""
        fleet = self._fleet
        shares = fleet.shares()
        return {
            "version": fleet.table.version,
            "problem": self.problem,
            "models": {
                name: {
                    "model": fleet.table.models[name].model,
                    "share": _share(name, shares),
                    "declared_share": fleet.table.shares.get(name),
                    "stopped": fleet.stopped.get(name),
                    "breaker": model.breaker.state,
                    "health": model.health,
                    "answering": model.gate.inside,
                    "waiting": model.gate.waiting,
                    "judged": fleet.judge.count(name),
                }
                for name, model in fleet.models.items()
            },
        }

    async def _read(self, file: Path) -> None:
        try:
            table = await asyncio.to_thread(load_routes, file)
            self._require_keys(file, table)
        except SettingsError as error:
            self.problem = str(error)
            log.error("routes: the former table stays in use: %s", error)
            return
        self.problem = ""
        self._fleet.apply(table)
        self._agree_at = 0.0
        self._outdated = True
        for model in self._fleet.models.values():
            self._metrics.model_state(model.name, model.state)
        log.info("routes: version %d, shares %s", table.version, dict(table.shares) or "none")

    def _require_keys(self, file: Path, table: RouteTable) -> None:
        """Raise `SettingsError` if a model needs a key that this bot gets at its next start.

        Without it every request would fail, and the verdict would take its share away in all bots.
        """
        names = [n for n, model in table.models.items() if model.needs_key and not self._has_key(n)]
        if names:
            raise SettingsError(
                f"{file}: the bot has started without the API key of {', '.join(names)}",
                advice="restart the bot; `clawd-provision up` does it when a key is new",
            )

    async def _announce(self, name: str, reason: str) -> None:
        try:
            await self._store.set_state(VERDICTS, {self._key(name): reason})
        except StoreError as fault:
            log.error("%s", fault)

    async def _agree(self) -> None:
        """Take over the verdicts of other bots about this table, and repeat those that they have not got."""
        for name in self._shared():
            try:
                reason = await self._store.state(VERDICTS, self._key(name))
            except StoreError as fault:
                log.error("%s", fault)
                return
            if reason is not None:
                self._fleet.stop(name, reason)
            elif name in self._fleet.stopped:
                await self._announce(name, self._fleet.stopped[name])

    async def _forget(self) -> None:
        """Delete the verdicts about other tables. A bot that still has one of them repeats its own."""
        try:
            await self._store.keep_state(VERDICTS, [self._key(name) for name in self._shared()])
        except StoreError as fault:
            log.error("%s", fault)
            return
        self._outdated = False

    def _shared(self) -> tuple[str, ...]:
        return tuple(name for name, share in self._fleet.table.shares.items() if share)

    def _key(self, name: str) -> str:
        return f"{name}:{self._fleet.table.entry(name)}"

    def _show(self) -> None:
        fleet = self._fleet
        shares = fleet.shares()
        self._metrics.routes(
            fleet.table.version,
            {name: _share(name, shares) for name in fleet.models},
            readable=not self.problem,
        )


def _share(name: str, shares: Mapping[str, int]) -> int:
    if name == DEFAULT:
        return 100 - sum(shares.values())
    return 0 if name == FALLBACK else shares.get(name, 0)
