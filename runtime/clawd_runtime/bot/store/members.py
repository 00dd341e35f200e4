"""The members that share the database, and their ownership of messages and replies.

Every open message and every unsent reply has one owner, the member that handles it; null means that it has
none. A member works only on its own ones, and only on the oldest of a conversation, so a conversation is
handled by one member at a time, and in order, without a lock. A dead member is deleted together with its
ownership, in one transaction; everything it still tries fails, because it is no longer listed (see
`cluster`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol
from zlib import crc32

from sqlalchemy import ColumnElement, Connection, Table, delete, func, insert, select, text, update

from clawd_runtime.bot.store.schema import inbox, is_open, members, outbox, roles
from clawd_runtime.bot.values import ConversationKey

LOCKS = 0x636C6177
"""First key of the bots' advisory locks in PostgreSQL ("claw"); the second is a member's number, or 0."""
NOTICES = "clawd"
"""PostgreSQL's channel of notices."""
About = Literal["inbox", "outbox", "orphans", "stop", "edit"]


@dataclass(frozen=True, slots=True)
class Notice:
    """A notice to a member (`to`) through the database that it has work, or to all members (`to` 0)."""

    to: int
    about: About
    number: int = 0

    def __str__(self) -> str:
        return f"{self.to} {self.about} {self.number}"

    @classmethod
    def read(cls, payload: str) -> Notice | None:
        """Return the notice in a payload; None if a newer release wrote it."""
        match payload.split():
            case [to, ("inbox" | "outbox" | "orphans" | "stop" | "edit") as about, number] if (
                to + number
            ).isdigit():
                return cls(int(to), about, int(number))
        return None


@dataclass(frozen=True, slots=True)
class Census:
    """Whether a member is listed, and which listed members have no presence."""

    listed: bool
    gone: frozenset[int]


class Presence(Protocol):
    """The presence of a member, which shows others that it is alive.

    All methods but `close` raise `StoreError` if the session is broken.
    """

    async def new_number(self) -> int:
        """Return a number that was never used, and hold it."""

    async def hold(self, number: int) -> bool:
        """Hold a number again; return False while its earlier session has not ended."""

    async def release(self) -> None:
        """Release the number."""

    async def census(self, number: int) -> Census:
        """Return the census for member `number`; also the heartbeat, expected every few seconds."""

    async def notices(self, seconds: float) -> list[Notice]:
        """Return the notices that arrive within `seconds`, as soon as there is one."""

    async def close(self) -> None:
        """End the session, which releases the number."""


def send_notice(connection: Connection, notice: Notice) -> None:
    """Send a notice at the commit, if the database can have other members."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(NOTICES, str(notice))))


def is_listed(connection: Connection, member: int) -> bool:
    """Return whether this member is listed."""
    return connection.scalar(select(members.c.id).where(members.c.id == member)) is not None


def join(connection: Connection, member: int, channels: Iterable[str], now: float) -> None:
    """Add a member that serves these channels, and have it adopt everything without an owner."""
    names = f",{','.join(sorted(channels))},"
    connection.execute(insert(members).values(id=member, channels=names, leaving=0, joined_at=now))
    adopt(connection, member, channels)


def adopt(connection: Connection, member: int, channels: Iterable[str]) -> int:
    """Make this member the owner of everything without one on its channels, and return how much it is."""
    served = tuple(channels)
    adopted = 0
    for table in (inbox, outbox):
        mine = update(table).where(is_open[table], table.c.owner.is_(None), table.c.channel.in_(served))
        adopted += connection.execute(mine.values(owner=member)).rowcount
    return adopted


def has_orphans(connection: Connection, channels: Iterable[str]) -> bool:
    """Return whether there is anything to adopt."""
    served = tuple(channels)
    found = (
        select(table.c.channel)
        .where(is_open[table], table.c.owner.is_(None), table.c.channel.in_(served))
        .limit(1)
        for table in (inbox, outbox)
    )
    return any(connection.scalar(query) is not None for query in found)


def begin_leaving(connection: Connection, member: int, keep: Iterable[int]) -> None:
    """Release all roles and all messages but those in `keep`, and have no new ones assigned."""
    connection.execute(update(members).where(members.c.id == member).values(leaving=1))
    given = update(inbox).where(inbox.c.owner == member, is_open[inbox], inbox.c.seq.not_in(tuple(keep)))
    connection.execute(given.values(owner=None))
    connection.execute(delete(roles).where(roles.c.owner == member))
    send_notice(connection, Notice(0, "orphans"))


def remove(connection: Connection, member: int) -> None:
    """Delete a member and its ownership."""
    for table in (inbox, outbox):
        connection.execute(update(table).where(table.c.owner == member, is_open[table]).values(owner=None))
    connection.execute(delete(roles).where(roles.c.owner == member))
    connection.execute(delete(members).where(members.c.id == member))
    send_notice(connection, Notice(0, "orphans"))


def expel_all(connection: Connection) -> None:
    """Delete all members: only one bot can have a SQLite file open."""
    for table in (inbox, outbox):
        connection.execute(update(table).where(is_open[table]).values(owner=None))
    connection.execute(delete(roles))
    connection.execute(delete(members))


def is_gone(connection: Connection, member: int) -> bool:
    """Return whether this member's presence has ended; it cannot return before the transaction ends."""
    free = text("SELECT pg_try_advisory_xact_lock(:locks, :member)")
    return bool(connection.scalar(free, {"locks": LOCKS, "member": member}))


def leader(connection: Connection, role: str) -> int | None:
    """Return the member that has a role; None if it is vacant."""
    held = select(roles.c.owner).where(roles.c.name == role, roles.c.owner.in_(select(members.c.id)))
    found: int | None = connection.scalar(held)
    return found


def take_role(connection: Connection, member: int, role: str) -> bool:
    """Take a role if it is vacant, and return whether this member has it."""
    held_by = leader(connection, role)
    if held_by is None:
        connection.execute(delete(roles).where(roles.c.name == role))
        connection.execute(insert(roles).values(name=role, owner=member))
    return held_by in (None, member)


def serving(connection: Connection, channel: str) -> tuple[int, ...]:
    """Return the members that accept messages of a channel, in order of their numbers."""
    query = select(members.c.id).where(members.c.leaving == 0, members.c.channels.contains(f",{channel},"))
    return tuple(connection.scalars(query.order_by(members.c.id)))


def share_of(conversation: ConversationKey, among: tuple[int, ...]) -> int | None:
    """Return the member that gets a conversation: always the same one for the same members."""
    if not among:
        return None
    name = f"{conversation.channel}\x00{conversation.chat}\x00{conversation.thread}"
    return among[crc32(name.encode("utf-8", "replace")) % len(among)]


def notify_next(connection: Connection, table: Table, conversation: ConversationKey, member: int) -> None:
    """Send a notice to the owner of the oldest open row of a conversation that it can proceed."""
    number = table.primary_key.columns[0]
    oldest = (
        select(number, table.c.owner)
        .where(is_open[table], *of(table, conversation))
        .order_by(number)
        .limit(1)
    )
    row = connection.execute(oldest).one_or_none()
    if row is not None and row.owner not in (None, member):
        send_notice(connection, Notice(row.owner, "inbox" if table is inbox else "outbox", row[0]))


def is_behind(connection: Connection, table: Table, conversation: ConversationKey, number: int) -> bool:
    """Return whether an older row of the conversation is open."""
    key = table.primary_key.columns[0]
    older = select(key).where(is_open[table], *of(table, conversation), key < number).limit(1)
    return connection.scalar(older) is not None


def of(table: Table, conversation: ConversationKey) -> tuple[ColumnElement[bool], ...]:
    """Return the conditions for the rows of a conversation."""
    return (
        table.c.channel == conversation.channel,
        table.c.chat == conversation.chat,
        table.c.thread == conversation.thread,
    )
