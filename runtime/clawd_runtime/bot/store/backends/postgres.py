"""A PostgreSQL database, which several bots can share.

Each bot has two connections: this one for all operations, and that of `presence`. Advisory locks belong to a
session, so a pooler in between (pgbouncer) must not share sessions.
"""

from __future__ import annotations

import logging
import time
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from clawd_runtime.bot.store.backends.psycopg_errors import reason_of
from clawd_runtime.bot.store.members import LOCKS, Presence
from clawd_runtime.bot.store.presence import PostgresPresence
from clawd_runtime.bot.store.schema import LEAST_FREE, migrate
from clawd_runtime.errors import StoreError

log = logging.getLogger(__name__)

SPACE_ROW = 1024
SPACE_TABLE = text("CREATE TEMP TABLE IF NOT EXISTS clawd_space (filler text) ON COMMIT DELETE ROWS")
SPACE_ROWS = text(
    f"INSERT INTO clawd_space SELECT repeat('x', {SPACE_ROW}) FROM generate_series(1, :rows)"  # noqa: S608
)
WRITING = 0
"""The lock (under `LOCKS`) that a writing transaction holds."""
CONNECT_SECONDS = 5
START_SECONDS = 60.0
START_AGAIN_AFTER = 1.0
# A dead server, or a network that drops all packets, is noticed within about ten seconds.
TRANSPORT: dict[str, Any] = {
    "connect_timeout": CONNECT_SECONDS,
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
    "application_name": "clawd-bot",
}
# The same for the server's side. A bot that hangs in the middle of a transaction loses it, and with it the
# turn to write, before the others time out.
SERVER_SIDE = {
    "statement_timeout": "15s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",
    "tcp_keepalives_idle": "4",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "client_min_messages": "warning",
    "default_transaction_isolation": "read\\ committed",
}
# A server may be configured to confirm a commit before it is on disk; a message must be on disk by then.
DURABLE = """SELECT set_config('synchronous_commit', 'on', false)
             WHERE current_setting('synchronous_commit') = 'off'"""
REFUSALS = (IntegrityError, DataError, ProgrammingError)


class PostgresBackend:
    """A `database.DatabaseBackend` for PostgreSQL."""

    advice = "start the database if it is down; the bot continues automatically when it responds"
    pause_after_loss = 0.3

    def __init__(self, engine: Engine, parameters: dict[str, Any]) -> None:
        self.engine = engine
        self.place = place_of(engine)
        self.parameters = parameters
        """Parameters for `psycopg.connect`, with the password."""

    def begin_writing(self, connection: Connection) -> None:
        """Take the lock of writers, which is held until the transaction ends."""
        _take(connection, WRITING)

    def refuses(self, error: SQLAlchemyError) -> bool:
        """Return whether it concerns integrity, types, or SQL that does not match the tables."""
        return isinstance(error, REFUSALS)

    def reason(self, error: SQLAlchemyError) -> str:
        """Return the server's message without its details, which quote values."""
        return reason_of(getattr(error, "orig", None) or error)

    async def presence(self) -> Presence:
        """See `database.DatabaseBackend`."""
        return await PostgresPresence.open(self.parameters, self.place)

    def check_space(self, connection: Connection) -> None:
        """Grow a temporary table, which is emptied at the commit and whose rows are not logged."""
        connection.execute(SPACE_TABLE)
        connection.execute(SPACE_ROWS, {"rows": LEAST_FREE // SPACE_ROW})

    def close(self) -> None:
        """Close the connection."""
        self.engine.dispose()


def open_postgres(url: str, password: str | None) -> PostgresBackend:
    """Connect and migrate the schema, which one bot does if several start at once.

    Wait for a server that does not respond yet. Raise `StoreError` if it cannot be used.
    """
    engine = _engine(url, password)
    backend = PostgresBackend(
        engine, dict(engine.dialect.create_connect_args(engine.url)[1]) | _arguments(password)
    )
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with engine.begin() as connection:
                _take(connection, WRITING)
                migrate(connection)
        except SQLAlchemyError as error:
            fault = StoreError(f"{backend.place}: {backend.reason(error)}")
            if not isinstance(error, OperationalError) or time.monotonic() > deadline:
                engine.dispose()
                raise fault from None
            log.warning("%s; retrying in %g s", fault, START_AGAIN_AFTER)
            time.sleep(START_AGAIN_AFTER)
        else:
            return backend


def place_of(engine: Engine) -> str:
    """Return server and database in the form for messages."""
    url = engine.url
    host = url.host or url.query.get("host") or "localhost"
    return f"postgresql {host}:{url.port or 5432}/{url.database}"


def _take(connection: Connection, lock: int) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:all, :one)"), {"all": LOCKS, "one": lock})


def _arguments(password: str | None) -> dict[str, Any]:
    options = " ".join(f"-c {name}={value}" for name, value in SERVER_SIDE.items())
    secret = {} if password is None else {"password": password}
    return TRANSPORT | {"options": options} | secret


def _engine(url: str, password: str | None) -> Engine:
    # Parameters contain users' texts: they must not appear in errors, and so not in logs.
    engine = create_engine(
        make_url(url),
        hide_parameters=True,
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        connect_args=_arguments(password),
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: psycopg.Connection[Any], _record: Any) -> None:
        connection.execute(DURABLE)
        connection.commit()

    return engine
