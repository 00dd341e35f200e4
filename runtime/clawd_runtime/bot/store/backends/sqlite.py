"""A SQLite database file, which one bot uses exclusively."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError, SQLAlchemyError

from clawd_runtime.bot.store import members
from clawd_runtime.bot.store.members import Presence
from clawd_runtime.bot.store.schema import LEAST_FREE, migrate
from clawd_runtime.errors import StoreError


class SqliteBackend:
    """A `database.DatabaseBackend` for SQLite, with a lock that prevents a second bot from using the file."""

    advice = "check free space and permissions of the database's folder"
    pause_after_loss = 0.0
    presence: Callable[[], Awaitable[Presence]] | None = None

    def __init__(self, engine: Engine, path: Path, lock: int) -> None:
        self.engine = engine
        self.place = str(path)
        self._lock = lock

    def begin_writing(self, connection: Connection) -> None:
        """Do nothing: `BEGIN IMMEDIATE` already waits for the turn to write."""

    def refuses(self, error: SQLAlchemyError) -> bool:
        """Return whether it concerns integrity, types or SQL, not a full disk, a lock or a corrupt file."""
        cause = getattr(error, "orig", None)
        if isinstance(cause, sqlite3.OperationalError):
            return cause.sqlite_errorcode == sqlite3.SQLITE_ERROR
        return isinstance(error, IntegrityError | DataError | ProgrammingError)

    def reason(self, error: SQLAlchemyError) -> str:
        """Return SQLite's message, which quotes no values."""
        return str(getattr(error, "orig", None) or error)

    def check_space(self, connection: Connection) -> None:
        """Check the file system: SQLite's log may have room for a write on a full disk."""
        try:
            folder = os.statvfs(Path(self.place).parent)
        except OSError as error:
            raise StoreError(f"{self.place}: {error.strerror}", advice=self.advice) from None
        free = folder.f_bavail * folder.f_frsize
        if free < LEAST_FREE:
            raise StoreError(f"{self.place}: disk full: only {free >> 10} KiB free", advice=self.advice)

    def close(self) -> None:
        """Close the file, then release the lock."""
        self.engine.dispose()
        os.close(self._lock)


def open_sqlite(url: str) -> SqliteBackend:
    """Open the database (create it, readable only for its owner), migrate its schema, and lock it.

    Raise `StoreError` if it cannot be used or another bot has it open.
    """
    path = Path(make_url(url).database or "")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        lock = _lock(path.with_name(path.name + ".lock"))
    except BlockingIOError:
        raise StoreError(
            f"{path}: another clawd-bot has it open",
            advice="stop the other one first; two bots on one file would answer everything twice",
        ) from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}", advice="check the folder and its owner") from None
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            migrate(connection)
            members.expel_all(connection)
    except (SQLAlchemyError, StoreError) as error:
        os.close(lock)
        cause = getattr(error, "orig", None) or error
        raise StoreError(f"{path}: {cause}") from None
    return SqliteBackend(engine, path, lock)


def _lock(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _engine(url: str) -> Engine:
    # Parameters contain users' texts: they must not appear in errors, and so not in logs.
    engine = create_engine(url, hide_parameters=True, connect_args={"check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are started explicitly, see _begin
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
