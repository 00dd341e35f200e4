"""A member's presence in PostgreSQL: a session of its own that holds the advisory lock of the member's
number.

The server frees the lock when the session ends: at once when the process dies, within some ten seconds when
its host does (keep-alives), after `SILENCE` when the process hangs. No clocks are compared. The same session
hears the notices of the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import psycopg

from clawd_runtime.bot.store.members import LOCKS, NOTICES, Census, Notice
from clawd_runtime.bot.store.postgres import reason_of
from clawd_runtime.errors import StoreError

SILENCE = "12s"
HELD = """EXISTS (
    SELECT 1 FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2
    AND classid = %(locks)s::bigint::oid AND objid = id::bigint::oid
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"""


class PostgresPresence:
    """See `members.Presence`: an open session."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], place: str) -> None:
        self._connection = connection
        self._place = place

    @classmethod
    async def open(cls, parameters: dict[str, Any], place: str) -> PostgresPresence:
        """Begin a session that hears notices, and holds no number yet."""
        try:
            connection = await psycopg.AsyncConnection.connect(**parameters, autocommit=True)
            await connection.execute("SELECT set_config('idle_session_timeout', %s, false)", (SILENCE,))
            await connection.execute(f"LISTEN {NOTICES}")
        except psycopg.Error as error:
            raise StoreError(f"{place}: {reason_of(error)}") from None
        return cls(connection, place)

    async def new_number(self) -> int:
        """A number that nobody has had, held from now on."""
        number = int(await self._value("SELECT nextval('member_numbers')", ()))
        await self._value("SELECT pg_advisory_lock(%s, %s)", (LOCKS, number))
        return number

    async def hold(self, number: int) -> bool:
        """Hold a number again; False while an earlier session of it has not ended."""
        return bool(await self._value("SELECT pg_try_advisory_lock(%s, %s)", (LOCKS, number)))

    async def release(self) -> None:
        """Hold no number any more."""
        await self._value("SELECT pg_advisory_unlock_all()", ())

    async def census(self, number: int) -> Census:
        """Who is there. This is also the sign of life that keeps the session open."""
        listed = f"SELECT id, id <> %(me)s AND NOT {HELD} FROM members"  # noqa: S608  no value is written into it
        try:
            rows = await (await self._connection.execute(listed, {"me": number, "locks": LOCKS})).fetchall()
        except psycopg.Error as error:
            raise self._broken(error) from None
        return Census(number in {row[0] for row in rows}, frozenset(row[0] for row in rows if row[1]))

    async def notices(self, seconds: float) -> list[Notice]:
        """What is told within `seconds`; returns as soon as there is something."""
        heard: list[Notice | None] = []
        try:
            async for notify in self._connection.notifies(timeout=seconds, stop_after=1):
                heard.append(Notice.read(notify.payload))
        except psycopg.Error as error:
            raise self._broken(error) from None
        return [notice for notice in heard if notice is not None]

    async def close(self) -> None:
        """End the session; the number is free."""
        await self._connection.close()

    async def _value(self, query: str, values: Iterable[Any]) -> Any:
        try:
            row = await (await self._connection.execute(query, tuple(values))).fetchone()
        except psycopg.Error as error:
            raise self._broken(error) from None
        return row[0] if row else None

    def _broken(self, error: psycopg.Error) -> StoreError:
        return StoreError(f"{self._place}: {reason_of(error)}")
