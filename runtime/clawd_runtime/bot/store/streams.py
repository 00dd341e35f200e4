"""The streams: where the answer to a message is shown while it grows, recorded before it is visible.

opening ──▶ open ──▶ ended   the reply is complete, or was given up
   └──────────┴────▶ lost    nothing can be shown there: the reply is sent as a new message

After a crash, the answer continues to grow where the record says, and ends there. A message that was
`opening` may or may not exist: a platform with an idempotency key returns it when it is opened again; on
others it is lost, and stays behind incomplete, above the reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import ColumnElement, Connection, and_, case, delete, select, update

from clawd_runtime.bot.store.backends.inserting import insert_new
from clawd_runtime.bot.store.schema import streams as table
from clawd_runtime.bot.values import STREAM_STEP, Shown

StreamState = Literal["opening", "open", "lost", "ended"]


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """The record of a stream; its columns are described in `schema`."""

    ref: str
    sequence: int
    digest: str
    state: StreamState

    @property
    def takes_reply(self) -> bool:
        """Return whether a reply is to be completed there."""
        return bool(self.ref) and self.state in ("opening", "open")


def find(connection: Connection, channel: str, event_id: str) -> StreamRecord | None:
    """Return the stream of the answer to an event; None if nothing was shown of it."""
    row = connection.execute(select(table).where(_of(channel, event_id))).one_or_none()
    if row is None:
        return None
    return StreamRecord(row.ref, row.sequence, row.digest, cast(StreamState, row.state))


def put(connection: Connection, channel: str, event_id: str, stream: StreamRecord, now: float) -> None:
    """Store the record of a stream."""
    values = {
        "ref": stream.ref,
        "sequence": stream.sequence,
        "digest": stream.digest,
        "state": stream.state,
        "updated_at": now,
    }
    changed = connection.execute(update(table).where(_of(channel, event_id)).values(values))
    if changed.rowcount == 0:
        insert_new(connection, table, {"channel": channel, "event_id": event_id, **values})


def shown_for(connection: Connection, channel: str, event_id: str) -> Shown | None:
    """Return where the reply to an event is to be completed; None if it is a new message."""
    stream = find(connection, channel, event_id)
    if stream is None or not stream.takes_reply:
        return None
    return Shown(stream.ref, stream.sequence + 1)


def use_numbers(connection: Connection, channel: str, event_id: str) -> None:
    """Record that the numbers of an attempt to complete the reply are used."""
    used = table.c.sequence + STREAM_STEP
    connection.execute(update(table).where(_of(channel, event_id)).values(sequence=used))


def lose(connection: Connection, channel: str, event_id: str) -> None:
    """Record that nothing can be shown in a stream any more."""
    connection.execute(update(table).where(_of(channel, event_id)).values(state="lost"))


def end(connection: Connection, channel: str, event_id: str) -> None:
    """Record that the reply is complete: in the stream, or as a new message if that has no reference."""
    ended = case((table.c.ref == "", "lost"), else_="ended")
    connection.execute(
        update(table).where(_of(channel, event_id), table.c.state != "lost").values(state=ended)
    )


def purge(connection: Connection, before: float) -> int:
    """Delete records that were not changed since this time, and return how many."""
    return connection.execute(delete(table).where(table.c.updated_at < before)).rowcount


def _of(channel: str, event_id: str) -> ColumnElement[bool]:
    return and_(table.c.channel == channel, table.c.event_id == event_id)
