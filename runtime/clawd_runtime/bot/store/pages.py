"""What the page in the browser stores and shows: sessions, and the conversations of the console."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from clawd_runtime.bot.ports import ConversationSummary, OpenQuestion, Overview
from clawd_runtime.bot.store import history
from clawd_runtime.bot.store.backends.database import OpenDatabase
from clawd_runtime.bot.store.schema import (
    conversations,
    inbox,
    outbox,
    page_sessions,
    page_titles,
    turns,
)
from clawd_runtime.bot.values import ConversationKey

CHANNEL = "console"
MOST_SESSIONS = 20
"""Sessions of a user; with a further one, the one that expires first ends."""
MOST_CONVERSATIONS = 200
LONGEST_BEGINNING = 200


class StoredPages:
    """See `ports.PageStore`; each method is one transaction."""

    def __init__(self, database: OpenDatabase, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    async def begin_session(self, session: str, user: str, expires_at: float) -> None:
        """See `ports.PageStore`."""
        now = self._clock()
        values = {"session": session, "user_id": user, "expires_at": expires_at}

        def begin(connection: Connection) -> None:
            _end_old_sessions(connection, user, now)
            connection.execute(insert(page_sessions).values(values))

        await self._database.run(begin)

    async def user_of(self, session: str) -> str | None:
        """See `ports.PageStore`."""
        query = select(page_sessions.c.user_id).where(
            page_sessions.c.session == session, page_sessions.c.expires_at > self._clock()
        )

        def find(connection: Connection) -> str | None:
            return connection.scalar(query)

        return await self._database.run(find, kind="read")

    async def end_session(self, session: str) -> None:
        """See `ports.PageStore`."""
        ending = delete(page_sessions).where(page_sessions.c.session == session)
        await self._database.run(lambda c: c.execute(ending).rowcount)

    async def overview(self, user: str) -> Overview:
        """See `ports.PageStore`."""
        return await self._database.run(
            lambda c: Overview(_conversations(c, user), _open_questions(c, user)), kind="read"
        )

    async def turns(self, user: str, thread: str) -> Sequence[tuple[str, str]]:
        """See `ports.PageStore`."""
        place = ConversationKey(CHANNEL, user, thread)
        found = await self._database.run(lambda c: history.recall(c, place), kind="read")
        return [(turn.role, turn.text) for turn in found]

    async def rename(self, user: str, thread: str, title: str) -> bool:
        """See `ports.PageStore`."""
        place = and_(page_titles.c.user_id == user, page_titles.c.thread == thread)

        def write(connection: Connection) -> bool:
            if not _exists(connection, user, thread):
                return False
            if connection.execute(update(page_titles).where(place).values(title=title)).rowcount == 0:
                connection.execute(insert(page_titles).values(user_id=user, thread=thread, title=title))
            return True

        return await self._database.run(write)

    async def forget(self, user: str, thread: str) -> bool:
        """See `ports.PageStore`."""

        def erase(connection: Connection) -> bool:
            if any(question.thread == thread for question in _open_questions(connection, user)):
                return False
            for table in (turns, inbox, outbox):
                place = and_(table.c.channel == CHANNEL, table.c.chat == user, table.c.thread == thread)
                if table is turns:
                    connection.execute(delete(turns).where(place))
                elif table is inbox:
                    connection.execute(update(inbox).where(place).values(text="", context=None))
                else:
                    connection.execute(update(outbox).where(place).values(text="", formatting=None))
            given = and_(page_titles.c.user_id == user, page_titles.c.thread == thread)
            connection.execute(delete(page_titles).where(given))
            return True

        return await self._database.run(erase)


def _end_old_sessions(connection: Connection, user: str, now: float) -> None:
    """Delete expired sessions of everybody, and those of `user` that leave no place for another one."""
    connection.execute(delete(page_sessions).where(page_sessions.c.expires_at <= now))
    newest = (
        select(page_sessions.c.session)
        .where(page_sessions.c.user_id == user)
        .order_by(page_sessions.c.expires_at.desc())
        .limit(MOST_SESSIONS - 1)
    )
    kept = [row.session for row in connection.execute(newest)]
    old = and_(page_sessions.c.user_id == user, page_sessions.c.session.not_in(kept))
    connection.execute(delete(page_sessions).where(old))


def _conversations(connection: Connection, user: str) -> tuple[ConversationSummary, ...]:
    place = and_(
        conversations.c.channel == turns.c.channel,
        conversations.c.chat == turns.c.chat,
        conversations.c.thread == turns.c.thread,
    )
    ends = (
        select(turns.c.thread, func.min(turns.c.id).label("first"), func.max(turns.c.id).label("last"))
        .select_from(turns.outerjoin(conversations, place))
        .where(
            turns.c.channel == CHANNEL,
            turns.c.chat == user,
            or_(
                turns.c.generation == conversations.c.generation,
                and_(conversations.c.generation.is_(None), turns.c.generation == 0),
            ),
        )
        .group_by(turns.c.thread)
        .subquery()
    )
    titled = and_(page_titles.c.user_id == user, page_titles.c.thread == ends.c.thread)
    query = (
        select(
            ends.c.thread,
            page_titles.c.title,
            func.substr(turns.c.text, 1, LONGEST_BEGINNING).label("beginning"),
        )
        .select_from(ends.join(turns, turns.c.id == ends.c.first).outerjoin(page_titles, titled))
        .order_by(ends.c.last.desc())
        .limit(MOST_CONVERSATIONS)
    )
    return tuple(
        ConversationSummary(row.thread, row.title or "", row.beginning) for row in connection.execute(query)
    )


def _exists(connection: Connection, user: str, thread: str) -> bool:
    query = select(turns.c.id).where(
        turns.c.channel == CHANNEL, turns.c.chat == user, turns.c.thread == thread
    )
    found = connection.scalar(query.limit(1)) is not None
    return found or any(question.thread == thread for question in _open_questions(connection, user))


def _open_questions(connection: Connection, user: str) -> tuple[OpenQuestion, ...]:
    query = (
        select(inbox.c.thread, inbox.c.event_id, inbox.c.text)
        .where(inbox.c.channel == CHANNEL, inbox.c.chat == user, inbox.c.outcome.is_(None))
        .order_by(inbox.c.seq)
    )
    return tuple(OpenQuestion(row.thread, row.event_id, row.text) for row in connection.execute(query))
