"""The inbox: every message that was ever accepted, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from clawd_runtime.bot.characters import whole_characters
from clawd_runtime.bot.store import schema
from clawd_runtime.bot.values import ChatKind, ConversationKey, Inbound

table = schema.inbox


def add(connection: Connection, inbound: Inbound) -> int | None:
    """Store a message; its number, or None when its event or message id is known."""
    try:
        with connection.begin_nested():
            key = connection.execute(insert(table).values(_columns(inbound))).inserted_primary_key
    except IntegrityError:
        return None
    return int(key[0]) if key else None


def open_messages(connection: Connection) -> list[tuple[int, ConversationKey]]:
    """Number and conversation of all that is not dealt with, oldest first."""
    query = select(table.c.seq, table.c.channel, table.c.chat, table.c.thread)
    rows = connection.execute(query.where(table.c.outcome.is_(None)).order_by(table.c.seq))
    return [(row.seq, ConversationKey(row.channel, row.chat, row.thread)) for row in rows]


def message(connection: Connection, seq: int) -> Inbound | None:
    """The message of this number, unless it has been dealt with."""
    row = connection.execute(select(table).where(table.c.seq == seq, table.c.outcome.is_(None))).one_or_none()
    return _inbound(row) if row else None


def settle(connection: Connection, seq: int, outcome: str, now: float, *, keep_text: bool) -> bool:
    """Mark a message as dealt with; False when it was already.

    Without `keep_text` its words are forgotten; the ids stay, by which repetitions are recognised.
    """
    forgotten = {} if keep_text else {"text": ""}
    result = connection.execute(
        update(table)
        .where(table.c.seq == seq, table.c.outcome.is_(None))
        .values(outcome=outcome, done_at=now, **forgotten)
    )
    return bool(result.rowcount == 1)


def outcome(connection: Connection, channel: str, event_id: str) -> str | None:
    """What became of an event; None when it is unknown or not dealt with."""
    query = select(table.c.outcome).where(table.c.channel == channel, table.c.event_id == event_id)
    return cast("str | None", connection.scalar(query))


def depth(connection: Connection) -> int:
    """How many messages wait."""
    return connection.scalar(select(func.count()).where(table.c.outcome.is_(None))) or 0


def purge(connection: Connection, before: float) -> int:
    """Forget messages dealt with before this time; their repetitions would be taken as new."""
    return connection.execute(delete(table).where(table.c.done_at < before)).rowcount


def set_state(connection: Connection, channel: str, state: Mapping[str, str]) -> None:
    """Store a channel's own values."""
    values = schema.channel_state
    for name, value in state.items():
        place = (values.c.channel == channel) & (values.c.name == name)
        if connection.execute(update(values).where(place).values(value=value)).rowcount == 0:
            connection.execute(insert(values).values(channel=channel, name=name, value=value))


def get_state(connection: Connection, channel: str, name: str) -> str | None:
    """A channel's own value."""
    values = schema.channel_state
    query = select(values.c.value).where(values.c.channel == channel, values.c.name == name)
    return cast("str | None", connection.scalar(query))


def add_all(connection: Connection, inbounds: Sequence[Inbound]) -> list[tuple[int, ConversationKey]]:
    """Store messages; number and conversation of those that are new."""
    added = ((add(connection, inbound), inbound.conversation) for inbound in inbounds)
    return [(seq, conversation) for seq, conversation in added if seq is not None]


def _columns(inbound: Inbound) -> dict[str, Any]:
    columns = {
        "channel": inbound.channel,
        "event_id": inbound.event_id,
        "message_id": inbound.message_id,
        "chat": inbound.conversation.chat,
        "thread": inbound.conversation.thread,
        "chat_kind": inbound.chat_kind,
        "user_id": inbound.user,
        "text": inbound.text,
        "addressed": int(inbound.addressed),
        "reply_to": inbound.reply_to,
        "language": inbound.language,
        "received_at": inbound.received_at,
    }
    return {
        name: whole_characters(value) if isinstance(value, str) else value for name, value in columns.items()
    }


def _inbound(row: Row[Any]) -> Inbound:
    return Inbound(
        event_id=row.event_id,
        message_id=row.message_id,
        conversation=ConversationKey(row.channel, row.chat, row.thread),
        chat_kind=cast(ChatKind, row.chat_kind),
        user=row.user_id,
        text=row.text,
        addressed=bool(row.addressed),
        reply_to=row.reply_to,
        received_at=row.received_at,
        language=row.language,
    )
