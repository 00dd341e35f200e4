"""A database that is accessed from one thread only.

Operations are functions of a connection. They run in the order given; those that wait together share one
transaction, so that a burst of messages costs one flush to disk. If one of them fails, the transaction is
rolled back and each operation runs alone. A result is returned only after the commit, so it survives a crash.

Several bots may share one database (PostgreSQL). Their writing transactions then take turns, like those of
one SQLite file, so that no operation sees the partial effects of another. Each starts by checking that this
bot is still a member: an evicted bot, whose work others have taken over, changes nothing (see `cluster`).
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from clawd_runtime.bot.store import members
from clawd_runtime.errors import StoreError, StoreRefused

T = TypeVar("T")
BATCH = 128
OperationKind = Literal["read", "write", "join"]


class DatabaseBackend(Protocol):
    """The interface of a kind of database. `place` names the database in messages, without secrets."""

    engine: Engine
    place: str
    advice: str
    pause_after_loss: float
    """Seconds after a lost connection in which operations fail immediately instead of reconnecting."""

    @property
    def presence(self) -> Callable[[], Awaitable[members.Presence]] | None:
        """Return a function that opens the presence of this bot; None if there can be no others."""

    def begin_writing(self, connection: Connection) -> None:
        """Wait for this bot's turn to write; called first in a writing transaction."""

    def refuses(self, error: SQLAlchemyError) -> bool:
        """Return whether the same statement would fail again on every retry."""

    def reason(self, error: SQLAlchemyError) -> str:
        """Return the cause of an error without the values in statements, which are users' texts."""

    def check_space(self, connection: Connection) -> None:
        """Raise an error if there is no space for a few messages; a small write alone may not need any."""

    def close(self) -> None:
        """Close all connections and release locks."""


class Deposed(StoreError):
    """The bot is not a member, or no longer: it was evicted, and another one took over its work."""


@dataclass(slots=True)
class _Job:
    operation: Callable[[Connection], Any]
    then: Callable[[Any], None] | None
    kind: OperationKind
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    becomes: int | None = None
    result: Any = None
    problem: BaseException | None = None

    def settle(self) -> None:
        # `then` runs even if the caller no longer waits: a commit must take effect.
        if self.problem is None and self.then is not None:
            self.then(self.result)
        if self.future.cancelled():
            return
        if self.problem is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.problem)


class OpenDatabase:
    """An open database. Create it with `open_database`."""

    def __init__(self, backend: DatabaseBackend) -> None:
        self._backend = backend
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._member: int | None = None
        self._committing = False
        self._lost_at = -float("inf")
        self._thread = threading.Thread(target=self._work, name="database", daemon=True)
        self._thread.start()

    @property
    def member(self) -> int:
        """Number of this bot among those that share the database; raises `Deposed` if it has none.

        Within an operation it is the number for which the membership was checked.
        """
        if self._member is None:
            raise Deposed("this bot is not a member of the database's cluster")
        return self._member

    @property
    def presence(self) -> Callable[[], Awaitable[members.Presence]] | None:
        """See `DatabaseBackend.presence`."""
        return self._backend.presence

    async def run(
        self,
        operation: Callable[[Connection], T],
        then: Callable[[T], None] | None = None,
        *,
        kind: OperationKind = "write",
    ) -> T:
        """Run `operation` in a transaction and return its result after the commit.

        `then` is called with the result in the event loop, even if the caller was cancelled. An operation may
        be run twice, but takes effect once. One of kind `read` does not wait for writers. Raise
        `StoreRefused` if the database would refuse every retry, `Deposed` if this bot is not a member,
        another `StoreError` if the database fails, or the exception of `operation`; nothing of it is then
        stored (or possibly all of it if the connection broke at the commit).
        """
        return await self._run(operation, then, kind, None)

    async def join(self, member: int, operation: Callable[[Connection], T]) -> T:
        """Run `operation`, which makes this bot the member with this number. Raise like `run`."""
        return await self._run(operation, None, "join", member)

    def check_space(self, connection: Connection) -> None:
        """See `DatabaseBackend.check_space`; call it within an operation."""
        self._backend.check_space(connection)

    def close(self) -> None:
        """Finish the queued operations and close the database."""
        self._jobs.put(None)
        self._thread.join()
        self._backend.close()

    async def _run(
        self,
        operation: Callable[[Connection], T],
        then: Callable[[T], None] | None,
        kind: OperationKind,
        becomes: int | None,
    ) -> T:
        loop = asyncio.get_running_loop()
        job = _Job(operation, then, kind, loop, loop.create_future(), becomes)
        self._jobs.put(job)
        result: T = await job.future
        return result

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, ending = self._gather(first)
            self._carry_out(batch)
            for loop in {job.loop for job in batch}:
                mine = [job for job in batch if job.loop is loop]
                loop.call_soon_threadsafe(_settle, mine)
            if ending:
                return

    def _gather(self, first: _Job) -> tuple[list[_Job], bool]:
        batch = [first]
        while len(batch) < BATCH:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                return batch, True
            batch.append(job)
        return batch, False

    def _carry_out(self, batch: list[_Job]) -> None:
        try:
            self._transact_again_if_stale(batch)
        except Exception as error:
            if len(batch) > 1 and self._is_of_one(error):
                for job in batch:
                    self._carry_out([job])
                return
            for job in batch:
                job.problem = self._failure(error)
        else:
            for job in batch:
                self._member = job.becomes or self._member

    def _is_of_one(self, error: Exception) -> bool:
        """Return whether one operation caused the error, so that the others can succeed without it."""
        return not isinstance(error, SQLAlchemyError) or self._backend.refuses(error)

    def _transact_again_if_stale(self, batch: list[_Job]) -> None:
        """Run the batch in a transaction; retry once if the connection had broken while it was idle."""
        if time.monotonic() < self._lost_at + self._backend.pause_after_loss:
            raise StoreError(f"{self._backend.place}: connection lost")
        try:
            try:
                self._transact(batch)
            except DBAPIError as error:
                if not error.connection_invalidated or self._committing:
                    raise
                self._transact(batch)
        except DBAPIError as error:
            if not self._backend.refuses(error):
                self._lost_at = time.monotonic()
            raise

    def _transact(self, batch: list[_Job]) -> None:
        self._committing = False
        with self._backend.engine.connect() as connection, connection.begin():
            kinds = {job.kind for job in batch}
            if kinds != {"read"}:
                self._backend.begin_writing(connection)
            if "write" in kinds and not members.is_listed(connection, self.member):
                raise Deposed(
                    f"{self._backend.place}: this bot was evicted: another one has taken over its work"
                )
            for job in batch:
                job.result = job.operation(connection)
            self._committing = True

    def _failure(self, error: Exception) -> Exception:
        if not isinstance(error, SQLAlchemyError):
            return error
        kind = StoreRefused if self._backend.refuses(error) else StoreError
        return kind(f"{self._backend.place}: {self._backend.reason(error)}", advice=self._backend.advice)


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()


def open_database(url: str, password: str | None = None) -> OpenDatabase:
    """Open the database and migrate its schema; raise `StoreError` if it cannot be used."""
    # Imported only when used, because every library takes memory.
    if url.startswith("sqlite:"):
        from clawd_runtime.bot.store.backends.sqlite import open_sqlite

        return OpenDatabase(open_sqlite(url))
    from clawd_runtime.bot.store.backends.postgres import open_postgres

    return OpenDatabase(open_postgres(url, password))
