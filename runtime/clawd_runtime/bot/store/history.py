"""The turns of conversations. `/new` starts a new generation; only the newest one is recalled."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import ColumnElement, Connection, Table, and_, delete, insert, select, update

from clawd_runtime.bot.store.schema import conversations, turns
from clawd_runtime.bot.values import ConversationKey

TurnRole = Literal["user", "assistant"]
REMEMBERED_TURNS = 400
# More than the largest contexts can hold; a few enormous messages must not fill the memory.
REMEMBERED_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a conversation."""

    role: TurnRole
    text: str


def recall(connection: Connection, conversation: ConversationKey) -> tuple[Turn, ...]:
    """Return the newest turns of a conversation, oldest first, at most `REMEMBERED_BYTES` in total."""
    newest = (
        select(turns.c.role, turns.c.text)
        .where(_of(turns, conversation), turns.c.generation == _generation(connection, conversation))
        .order_by(turns.c.id.desc())
        .limit(REMEMBERED_TURNS)
    )
    turns_kept: deque[Turn] = deque()
    left = REMEMBERED_BYTES
    with connection.execute(newest) as rows:
        while (row := rows.fetchone()) is not None:
            left -= len(row.text.encode())
            if left < 0:
                break
            turns_kept.appendleft(Turn(cast(TurnRole, row.role), row.text))
    return tuple(turns_kept)


def append(
    connection: Connection, conversation: ConversationKey, added: tuple[Turn, ...], now: float
) -> None:
    """Add turns to the newest generation, and delete those that `recall` can no longer return."""
    generation = _generation(connection, conversation)
    for turn in added:
        connection.execute(
            insert(turns).values(
                channel=conversation.channel,
                chat=conversation.chat,
                thread=conversation.thread,
                generation=generation,
                role=turn.role,
                text=turn.text,
                created_at=now,
            )
        )
    if added:
        _forget_oldest(connection, conversation)


def begin_anew(connection: Connection, conversation: ConversationKey) -> None:
    """Start a new generation."""
    raised = (
        update(conversations)
        .where(_of(conversations, conversation))
        .values(generation=conversations.c.generation + 1)
    )
    if connection.execute(raised).rowcount == 0:
        connection.execute(
            insert(conversations).values(
                channel=conversation.channel, chat=conversation.chat, thread=conversation.thread, generation=1
            )
        )


def purge(connection: Connection, before: float) -> int:
    """Delete turns of past generations from before this time, and return how many."""
    superseded = (
        select(conversations.c.generation)
        .where(
            conversations.c.channel == turns.c.channel,
            conversations.c.chat == turns.c.chat,
            conversations.c.thread == turns.c.thread,
            conversations.c.generation > turns.c.generation,
        )
        .exists()
    )
    return connection.execute(delete(turns).where(turns.c.created_at < before, superseded)).rowcount


def _forget_oldest(connection: Connection, conversation: ConversationKey) -> None:
    newest_to_forget = (
        select(turns.c.id)
        .where(_of(turns, conversation))
        .order_by(turns.c.generation.desc(), turns.c.id.desc())
        .offset(REMEMBERED_TURNS)
        .limit(1)
    )
    last = connection.scalar(newest_to_forget)
    if last is not None:
        connection.execute(delete(turns).where(_of(turns, conversation), turns.c.id <= last))


def _generation(connection: Connection, conversation: ConversationKey) -> int:
    query = select(conversations.c.generation).where(_of(conversations, conversation))
    return connection.scalar(query) or 0


def _of(table: Table, conversation: ConversationKey) -> ColumnElement[bool]:
    return and_(
        table.c.channel == conversation.channel,
        table.c.chat == conversation.chat,
        table.c.thread == conversation.thread,
    )
