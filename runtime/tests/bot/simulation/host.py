"""A host of the bot that can crash: its database outlives it, its calls of platforms may get lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from sqlalchemy import Connection, Engine, StaticPool, create_engine, event

from clawd_runtime.bot.store import members
from clawd_runtime.bot.store.backends.database import Deposed, OperationKind
from clawd_runtime.bot.store.schema import migrate

T = TypeVar("T")


@dataclass
class Chances:
    """The probabilities of a crash at an await, and of the faults of a call."""

    crash: float = 0.0
    refused: float = 0.0
    lost: float = 0.0
    slow: float = 0.0


@dataclass
class Power:
    """The power of a host: from the crash on, nothing that it does has an effect."""

    random: random.Random
    chances: Chances
    dead: asyncio.Event = field(default_factory=asyncio.Event)

    async def point(self) -> None:
        """Crash here, perhaps; never return after a crash."""
        if not self.dead.is_set() and self.random.random() < self.chances.crash:
            self.dead.set()
        if self.dead.is_set():
            await asyncio.get_running_loop().create_future()


def new_engine() -> Engine:
    """Return an empty database in memory."""
    engine = create_engine(
        "sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False}, hide_parameters=True
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    with engine.begin() as connection:
        migrate(connection)
    return engine


class InlineDatabase:
    """An `OpenDatabase` that works in the event loop: an operation ends where it was called."""

    presence = None

    def __init__(self, engine: Engine, power: Power) -> None:
        self._engine = engine
        self._power = power
        self.member = 0

    async def run(
        self,
        operation: Callable[[Connection], T],
        then: Callable[[T], None] | None = None,
        *,
        kind: OperationKind = "write",
    ) -> T:
        await self._power.point()
        with self._engine.begin() as connection:
            if kind == "write" and not members.is_listed(connection, self.member):
                raise Deposed("evicted")
            result = operation(connection)
        if then is not None:
            then(result)
        await asyncio.sleep(0)
        await self._power.point()
        return result

    async def join(self, member: int, operation: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            members.expel_all(connection)
            result = operation(connection)
        self.member = member
        return result


class LossyTransport(httpx.AsyncBaseTransport):
    """The network between host and platforms."""

    def __init__(self, apps: dict[str, Any], power: Power) -> None:
        self._transports = {host: httpx.ASGITransport(app) for host, app in apps.items()}
        self._power = power

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        power, chances = self._power, self._power.chances
        await power.point()
        await asyncio.sleep(power.random.uniform(0.01, 0.1))
        await power.point()
        if power.random.random() < chances.refused:
            raise httpx.ConnectError("refused", request=request)
        if power.random.random() < chances.slow:
            await asyncio.sleep(power.random.uniform(0.0, 15.0))
            await power.point()
        response = await self._transports[request.url.host].handle_async_request(request)
        content = await response.aread()
        await asyncio.sleep(power.random.uniform(0.0, 0.05))
        await power.point()
        if power.random.random() < chances.lost:
            raise httpx.ReadTimeout("lost", request=request)
        return httpx.Response(response.status_code, headers=response.headers, content=content)
