"""A member's presence in PostgreSQL: a separate session that holds the advisory lock of its number.

The server releases the lock when the session ends: immediately when the process dies, within some ten seconds
when its host dies (keep-alives), after `SILENCE` when the process hangs. No clocks are compared. The same
session receives the notices of the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from clawd_runtime.bot.store.backends.psycopg_errors import reason_of
from clawd_runtime.bot.store.members import LOCKS, NOTICES, Census, Notice
from clawd_runtime.errors import StoreError

SILENCE = "12s"
HELD = """EXISTS (
    SELECT 1 FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2
    AND classid = %(locks)s::bigint::oid AND objid = id::bigint::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""


class PostgresPresence:
    """A `members.Presence` in an open session."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], place: str) -> None:
        self._connection = connection
        self._place = place

    @classmethod
    async def open(cls, parameters: dict[str, Any], place: str) -> PostgresPresence:
        """Open a session that receives notices and holds no number yet."""
        try:
            connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
            await connection.execute("SELECT set_config('idle_session_timeout', %s, false)", (SILENCE,))
            await connection.execute(f"LISTEN {NOTICES}")
        except psycopg.Error as error:
            raise StoreError(f"{place}: {reason_of(error)}") from None
        return cls(connection, place)

    async def new_number(self) -> int:
        """Return a number that was never used, and hold it."""
        number = int(await self._value("SELECT nextval('member_numbers')", ()))
        await self._value("SELECT pg_advisory_lock(%s, %s)", (LOCKS, number))
        return number

    async def hold(self, number: int) -> bool:
        """Hold a number again; return False while its earlier session has not ended."""
        return bool(await self._value("SELECT pg_try_advisory_lock(%s, %s)", (LOCKS, number)))

    async def release(self) -> None:
        """Release the number."""
        await self._value("SELECT pg_advisory_unlock_all()", ())

    async def census(self, number: int) -> Census:
        """Return the census; also the heartbeat that keeps the session open."""
        listed = f"SELECT id, id <> %(me)s AND NOT {HELD} FROM members"  # noqa: S608  no value is written into it
        try:
            rows = await (await self._connection.execute(listed, {"me": number, "locks": LOCKS})).fetchall()
        except psycopg.Error as error:
            raise self._broken(error) from None
        return Census(number in {row[0] for row in rows}, frozenset(row[0] for row in rows if row[1]))

    async def notices(self, seconds: float) -> list[Notice]:
        """Return the notices that arrive within `seconds`, as soon as there is one."""
        received: list[Notice | None] = []
        try:
            async for notify in self._connection.notifies(timeout=seconds, stop_after=1):
                received.append(Notice.read(notify.payload))
        except psycopg.Error as error:
            raise self._broken(error) from None
        return [notice for notice in received if notice is not None]

    async def close(self) -> None:
        """End the session, which releases the number."""
        await self._connection.close()

    async def _value(self, query: str, values: Iterable[Any]) -> Any:
        try:
            row = await (await self._connection.execute(query, tuple(values))).fetchone()
        except psycopg.Error as error:
            raise self._broken(error) from None
        return row[0] if row else None

    def _broken(self, error: psycopg.Error) -> StoreError:
        return StoreError(f"{self._place}: {reason_of(error)}")
