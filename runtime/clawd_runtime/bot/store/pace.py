"""The token buckets of the platforms, which all bots on the database share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from sqlalchemy import Connection, delete, select, update

from clawd_runtime.bot.buckets import Bucket, BucketState, PacedCall, take
from clawd_runtime.bot.store.backends.inserting import insert_new
from clawd_runtime.bot.store.schema import pace as table


def take_tokens(connection: Connection, channel: str, calls: Sequence[PacedCall], now: float) -> list[float]:
    """Give tokens to calls in this order, and return the seconds that each must still wait."""
    states = _states(connection, channel, {bucket.scope for call in calls for bucket in call.buckets})
    waits, changed = take(calls, states, now)
    for scope, state in changed.items():
        _put(connection, channel, scope, state)
    return waits


def refuse(connection: Connection, channel: str, buckets: Iterable[Bucket], until: float, now: float) -> None:
    """Record that the platform refuses calls until this time.

    It does not say why. The chat is closed for all bots; if another one is, too, the limit of the whole bot
    is the reason, and all chats are closed.
    """
    known = tuple(buckets)
    chats = {bucket.scope for bucket in known if bucket.of_chat}
    refused = select(table.c.scope).where(
        table.c.channel == channel, table.c.of_chat == 1, table.c.refused_until > now
    )
    whole = not chats or bool(set(connection.scalars(refused)) - chats)
    for bucket in known:
        if bucket.of_chat or whole:
            state = _states(connection, channel, {bucket.scope}).get(bucket.scope, BucketState())
            later = max(until, state.refused_until)
            _put(connection, channel, bucket.scope, BucketState(state.full_at, later), of_chat=bucket.of_chat)


def purge(connection: Connection, before: float) -> int:
    """Delete buckets that are full since this time, and return how many."""
    idle = (table.c.full_at < before, table.c.refused_until < before)
    return connection.execute(delete(table).where(*idle)).rowcount


def _states(connection: Connection, channel: str, scopes: set[str]) -> Mapping[str, BucketState]:
    columns = (table.c.scope, table.c.full_at, table.c.refused_until)
    query = select(*columns).where(table.c.channel == channel, table.c.scope.in_(scopes))
    return {row.scope: BucketState(row.full_at, row.refused_until) for row in connection.execute(query)}


def _put(
    connection: Connection, channel: str, scope: str, state: BucketState, *, of_chat: bool | None = None
) -> None:
    values = {"full_at": state.full_at, "refused_until": state.refused_until}
    if of_chat is not None:
        values["of_chat"] = int(of_chat)
    place = (table.c.channel == channel, table.c.scope == scope)
    if connection.execute(update(table).where(*place).values(values)).rowcount == 0:
        insert_new(connection, table, {"channel": channel, "scope": scope, "of_chat": 0, **values})
