"""One SQLite database with one thread that alone touches it.

Operations are functions of a connection. They run in the order given; those that wait together share
one transaction (each behind its own savepoint), so that a burst of messages costs one flush to disk.
A result is handed out only after the commit: what `run` has returned survives a crash.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import SQLAlchemyError

from clawd_runtime.bot.store.schema import migrate
from clawd_runtime.errors import StoreError

T = TypeVar("T")
BATCH = 128


@dataclass(slots=True)
class _Job:
    operation: Callable[[Connection], Any]
    then: Callable[[Any], None] | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    result: Any = None
    problem: BaseException | None = None

    def settle(self) -> None:
        # `then` runs even when nobody waits any more: what was committed must be acted upon.
        if self.problem is None and self.then is not None:
            self.then(self.result)
        if self.future.cancelled():
            return
        if self.problem is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.problem)


class Database:
    """An open database. Made by `open_database`."""

    def __init__(self, engine: Engine, path: Path, lock: int) -> None:
        self._engine = engine
        self._path = path
        self._lock = lock
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="database", daemon=True)
        self._thread.start()

    async def run(self, operation: Callable[[Connection], T], then: Callable[[T], None] | None = None) -> T:
        """Run `operation` in a transaction and return its result after the commit.

        `then` is called with the result in the event loop, even when the caller was cancelled meanwhile.
        Raises `StoreError` when the database fails, or what `operation` raises; then nothing of it is kept.
        """
        loop = asyncio.get_running_loop()
        job = _Job(operation, then, loop, loop.create_future())
        self._jobs.put(job)
        result: T = await job.future
        return result

    def close(self) -> None:
        """Finish what is queued and close the file."""
        self._jobs.put(None)
        self._thread.join()
        self._engine.dispose()
        os.close(self._lock)

    def _work(self) -> None:
        while (first := self._jobs.get()) is not None:
            batch, ending = self._gather(first)
            self._commit(batch)
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

    def _commit(self, batch: list[_Job]) -> None:
        try:
            with self._engine.begin() as connection:
                for job in batch:
                    self._apply(job, connection)
        except SQLAlchemyError as error:
            # SQLite may have ended the transaction by itself (disk full): none of the batch counts.
            for job in batch:
                job.problem = self._failure(error)

    def _apply(self, job: _Job, connection: Connection) -> None:
        try:
            with connection.begin_nested():
                job.result = job.operation(connection)
        except SQLAlchemyError:
            raise
        except Exception as error:
            job.problem = error

    def _failure(self, error: SQLAlchemyError) -> StoreError:
        cause = getattr(error, "orig", None) or error
        return StoreError(
            f"{self._path}: {cause}", advice="check free space and permissions of the database's folder"
        )


def _settle(jobs: list[_Job]) -> None:
    for job in jobs:
        job.settle()


def open_database(url: str) -> Database:
    """Open (or make, for its owner alone) the database, bring its schema up to date, and lock it.

    Raises `StoreError` when it cannot be used or another bot has it open.
    """
    path = Path(make_url(url).database or "")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        lock = _lock(path.with_name(path.name + ".lock"))
    except BlockingIOError:
        raise StoreError(
            f"{path}: another clawd-bot has it open",
            advice="stop that one first; two bots on one database would answer everything twice",
        ) from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", advice="check the folder and its owner") from None
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            migrate(connection)
    except (SQLAlchemyError, StoreError) as error:
        os.close(lock)
        cause = getattr(error, "orig", None) or error
        raise StoreError(f"{path}: {cause}") from None
    return Database(engine, path, lock)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _engine(url: str) -> Engine:
    # Parameters are the users' words: they must not appear in errors, and so not in logs.
    engine = create_engine(url, hide_parameters=True, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are ours, see _begin
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
