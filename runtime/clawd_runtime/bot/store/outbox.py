"""The outbox: every message to send, with its state.

pending ──▶ sending ──▶ sent
   ▲           ├──────▶ doubtful   it may have arrived, and a retry could show it twice
   └───────────┴──────▶ dead       it will not arrive

A message that waits for a retry stays `sending` if an earlier attempt may have arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from sqlalchemy import (
    Connection,
    Row,
    and_,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    update,
)

from clawd_runtime.bot.store import members, streams
from clawd_runtime.bot.store.inbox import Behind
from clawd_runtime.bot.store.schema import has_failed, is_open
from clawd_runtime.bot.store.schema import outbox as table
from clawd_runtime.bot.values import ChatKind, ConversationKey, Reply, Shown

FinalState = Literal["sent", "doubtful", "dead"]
OPEN = is_open[table]


@dataclass(frozen=True, slots=True)
class Delivery:
    """An attempt to send. `interrupted`: an earlier one was started, and it is unknown whether it arrived.

    `first_attempt_at`, `created_at` and `not_before` are seconds since the epoch.
    """

    id: int
    reply: Reply
    interrupted: bool
    created_at: float
    first_attempt_at: float | None
    not_before: float


def add(
    connection: Connection, replies: tuple[Reply, ...], owner: int, now: float
) -> list[tuple[int, ConversationKey]]:
    """Queue messages and return their numbers."""
    queued = []
    for reply in replies:
        values = _columns(reply, now) | {"owner": owner}
        key = connection.execute(insert(table).values(values)).inserted_primary_key
        if key:
            queued.append((int(key[0]), reply.conversation))
    return queued


def open_deliveries(connection: Connection, owner: int) -> list[tuple[int, ConversationKey]]:
    """Return number and conversation of all unfinished messages of this owner, oldest first."""
    query = select(table.c.id, table.c.channel, table.c.chat, table.c.thread)
    # Sorted here: for ORDER BY id, the database may scan all messages ever stored.
    rows = sorted(connection.execute(query.where(OPEN, table.c.owner == owner)))
    return [(row.id, ConversationKey(row.channel, row.chat, row.thread)) for row in rows]


def delivery(connection: Connection, id: int, owner: int) -> Delivery | Behind | None:
    """Return the message with this number; None if it is finished or belongs to another owner."""
    mine = (table.c.id == id, OPEN, table.c.owner == owner)
    row = connection.execute(select(table).where(*mine)).one_or_none()
    if row is None:
        return None
    found = _delivery(
        row, streams.shown_for(connection, row.channel, row.event_id) if row.part == 0 else None
    )
    return Behind() if members.is_behind(connection, table, found.reply.conversation, id) else found


def begin(connection: Connection, id: int, owner: int, now: float) -> bool:
    """Record an attempt before it is made; return False if the message belongs to another owner."""
    started = connection.execute(
        update(table)
        .where(table.c.id == id, OPEN, table.c.owner == owner)
        .values(
            state="sending",
            attempts=table.c.attempts + 1,
            first_attempt_at=func.coalesce(table.c.first_attempt_at, now),
        )
        .returning(table.c.channel, table.c.event_id, table.c.part)
    )
    row = started.one_or_none()
    if row is not None and row.part == 0:
        streams.use_numbers(connection, row.channel, row.event_id)
    return row is not None


def lose_stream(connection: Connection, id: int, owner: int) -> None:
    """Record that a message cannot be completed where it was shown; it is sent as a new one."""
    row = connection.execute(
        update(table)
        .where(table.c.id == id, OPEN, table.c.owner == owner)
        .values(state="pending", attempts=0, first_attempt_at=None)
        .returning(table.c.channel, table.c.event_id)
    ).one_or_none()
    if row is not None:
        streams.lose(connection, row.channel, row.event_id)


def unexplained(connection: Connection, conversation: ConversationKey) -> tuple[int, ...]:
    """Return the numbers of the doubtful messages of a conversation that its users do not know of."""
    doubtful = (table.c.state == literal_column("'doubtful'"), table.c.explained.is_(None))
    query = select(table.c.id).where(has_failed, *doubtful, *members.of(table, conversation))
    return tuple(connection.scalars(query))


def explain(connection: Connection, doubts: tuple[int, ...]) -> None:
    """Record that a reply explains these doubtful messages."""
    if doubts:
        connection.execute(update(table).where(table.c.id.in_(doubts)).values(explained=1))


def postpone(
    connection: Connection, id: int, owner: int, until: float, problem: str, *, in_doubt: bool
) -> None:
    """Record that the attempt failed and another one follows.

    As long as any attempt may have arrived (`in_doubt`), the state stays `sending`.
    """
    connection.execute(
        update(table)
        .where(table.c.id == id, OPEN, table.c.owner == owner)
        .values(state="sending" if in_doubt else "pending", not_before=until, problem=problem)
    )


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """The final state of a message; `ref` is the platform's identifier of a message that was sent."""

    state: FinalState
    ref: str | None = None
    problem: str | None = None


def finish(connection: Connection, id: int, owner: int, result: DeliveryResult, now: float) -> None:
    """Record the final state of a message.

    `sent` is recorded even if another member owns the message by now, and replaces `doubtful`; any other
    state is recorded only for its owner.
    """
    its_owners = and_(OPEN, table.c.owner == owner)
    may_end = or_(OPEN, table.c.state == "doubtful") if result.state == "sent" else its_owners
    ended = (
        update(table)
        .where(table.c.id == id, may_end)
        .values(
            state=result.state,
            finished_at=now,
            sent_ref=result.ref,
            problem=result.problem,
            owner=None,
        )
        .returning(table.c.channel, table.c.chat, table.c.thread, table.c.event_id, table.c.part)
    )
    row = connection.execute(ended).one_or_none()
    if row is not None:
        if row.part == 0:
            streams.end(connection, row.channel, row.event_id)
        members.notify_next(connection, table, ConversationKey(row.channel, row.chat, row.thread), owner)


def answer(connection: Connection, channel: str, event_id: str) -> str | None:
    """Return the whole answer to an event; None if there is none."""
    query = select(table.c.text).where(table.c.channel == channel, table.c.event_id == event_id)
    parts = connection.scalars(query.order_by(table.c.part)).all()
    return "\n".join(parts) if parts else None


def depths(connection: Connection) -> dict[str, int]:
    """Return how many messages are in each state, of those not sent."""
    count = select(table.c.state, func.count()).group_by(table.c.state)
    found = (connection.execute(count.where(those)) for those in (OPEN, has_failed))
    return {row.state: row[1] for rows in found for row in rows}


def purge(connection: Connection, before: float) -> int:
    """Delete messages finished before this time, and return how many."""
    return connection.execute(delete(table).where(table.c.finished_at < before)).rowcount


def _columns(reply: Reply, now: float) -> dict[str, Any]:
    return {
        "key": reply.key,
        "event_id": reply.event_id,
        "channel": reply.conversation.channel,
        "chat": reply.conversation.chat,
        "thread": reply.conversation.thread,
        "chat_kind": reply.chat_kind,
        "reply_to": reply.reply_to,
        "text": reply.text,
        "part": reply.part,
        "parts": reply.parts,
        "formatting": reply.formatting or None,
        "state": "pending",
        "attempts": 0,
        "created_at": now,
        "not_before": now,
    }


def _delivery(row: Row[Any], shown: Shown | None) -> Delivery:
    reply = Reply(
        key=row.key,
        event_id=row.event_id,
        conversation=ConversationKey(row.channel, row.chat, row.thread),
        chat_kind=cast(ChatKind, row.chat_kind),
        reply_to=row.reply_to,
        text=row.text,
        part=row.part,
        parts=row.parts,
        attempt=row.attempts + 1,
        formatting=row.formatting or "",
        shown=shown,
    )
    return Delivery(
        id=row.id,
        reply=reply,
        interrupted=row.state == "sending",
        created_at=row.created_at,
        first_attempt_at=row.first_attempt_at,
        not_before=row.not_before,
    )
