"""Who shares the database, and what belongs to whom.

Every open message and every reply to send has one owner, the member that deals with it; null is nobody's. A
member works only on what is its own and what is the oldest of its conversation, so a conversation is worked
on by one member at a time, and in order, without any lock. A member that is gone is deleted together with its
ownership, in one transaction; whatever it still tries fails, because it is not listed any more (see
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
"""First part of all advisory locks of ours in PostgreSQL ("claw"); the second is a member's number, or 0."""
NOTICES = "clawd"
"""PostgreSQL's channel of notices."""
About = Literal["inbox", "outbox", "orphans"]


@dataclass(frozen=True, slots=True)
class Notice:
    """What a member is told through the database: something for it to do, or for anybody (`to` 0)."""

    to: int
    about: About
    number: int = 0

    def __str__(self) -> str:
        return f"{self.to} {self.about} {self.number}"

    @classmethod
    def read(cls, words: str) -> Notice | None:
        """The notice of these words; None when a newer release wrote it."""
        match words.split():
            case [to, ("inbox" | "outbox" | "orphans") as about, number] if (to + number).isdigit():
                return cls(int(to), about, int(number))
        return None


@dataclass(frozen=True, slots=True)
class Census:
    """Whether a member is listed, and which others are though their presence has ended."""

    listed: bool
    gone: frozenset[int]


class Presence(Protocol):
    """What tells others that a member lives. All but `close` raise `StoreError` when it is broken."""

    async def new_number(self) -> int:
        """A number that nobody has had, held from now on."""

    async def hold(self, number: int) -> bool:
        """Hold a number again; False while an earlier session of it has not ended."""

    async def release(self) -> None:
        """Hold no number any more."""

    async def census(self, number: int) -> Census:
        """Who is there, as `number` sees it. Also the sign of life that is expected every few seconds."""

    async def notices(self, seconds: float) -> list[Notice]:
        """What is told within `seconds`; returns as soon as there is something."""

    async def close(self) -> None:
        """End; the number is free."""


def tell(connection: Connection, notice: Notice) -> None:
    """Told at the commit, where anybody else can be there."""
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_notify(NOTICES, str(notice))))


def is_listed(connection: Connection, member: int) -> bool:
    """Whether this member is one."""
    return connection.scalar(select(members.c.id).where(members.c.id == member)) is not None


def join(connection: Connection, member: int, channels: Iterable[str], now: float) -> None:
    """Add a member that serves these channels; what is nobody's becomes its own."""
    names = f",{','.join(sorted(channels))},"
    connection.execute(insert(members).values(id=member, channels=names, leaving=0, joined_at=now))
    adopt(connection, member, channels)


def adopt(connection: Connection, member: int, channels: Iterable[str]) -> int:
    """Make what is nobody's this member's own, if it serves the channel; how much that is."""
    served = tuple(channels)
    adopted = 0
    for table in (inbox, outbox):
        mine = update(table).where(is_open[table], table.c.owner.is_(None), table.c.channel.in_(served))
        adopted += connection.execute(mine.values(owner=member)).rowcount
    return adopted


def has_orphans(connection: Connection, channels: Iterable[str]) -> bool:
    """Whether there is anything to adopt."""
    served = tuple(channels)
    found = (
        select(table.c.channel)
        .where(is_open[table], table.c.owner.is_(None), table.c.channel.in_(served))
        .limit(1)
        for table in (inbox, outbox)
    )
    return any(connection.scalar(query) is not None for query in found)


def begin_leaving(connection: Connection, member: int, keep: Iterable[int]) -> None:
    """Give away all roles, and all messages but those in `keep`, and be given no more."""
    connection.execute(update(members).where(members.c.id == member).values(leaving=1))
    given = update(inbox).where(inbox.c.owner == member, is_open[inbox], inbox.c.seq.not_in(tuple(keep)))
    connection.execute(given.values(owner=None))
    connection.execute(delete(roles).where(roles.c.owner == member))
    tell(connection, Notice(0, "orphans"))


def remove(connection: Connection, member: int) -> None:
    """Delete a member; what was its own is nobody's."""
    for table in (inbox, outbox):
        connection.execute(update(table).where(table.c.owner == member, is_open[table]).values(owner=None))
    connection.execute(delete(roles).where(roles.c.owner == member))
    connection.execute(delete(members).where(members.c.id == member))
    tell(connection, Notice(0, "orphans"))


def expel_all(connection: Connection) -> None:
    """Delete all members: whoever holds a SQLite file is alone."""
    for table in (inbox, outbox):
        connection.execute(update(table).where(is_open[table]).values(owner=None))
    connection.execute(delete(roles))
    connection.execute(delete(members))


def is_gone(connection: Connection, member: int) -> bool:
    """Whether this member's presence has ended; it cannot come back before the transaction ends."""
    free = text("SELECT pg_try_advisory_xact_lock(:locks, :member)")
    return bool(connection.scalar(free, {"locks": LOCKS, "member": member}))


def leader(connection: Connection, role: str) -> int | None:
    """The member that has a role; None when it is vacant."""
    held = select(roles.c.owner).where(roles.c.name == role, roles.c.owner.in_(select(members.c.id)))
    found: int | None = connection.scalar(held)
    return found


def take_role(connection: Connection, member: int, role: str) -> bool:
    """Take a role if it is vacant; whether this member has it."""
    held_by = leader(connection, role)
    if held_by is None:
        connection.execute(delete(roles).where(roles.c.name == role))
        connection.execute(insert(roles).values(name=role, owner=member))
    return held_by in (None, member)


def serving(connection: Connection, channel: str) -> tuple[int, ...]:
    """The members that take messages of a channel, in order of their numbers."""
    query = select(members.c.id).where(members.c.leaving == 0, members.c.channels.contains(f",{channel},"))
    return tuple(connection.scalars(query.order_by(members.c.id)))


def share_of(conversation: ConversationKey, among: tuple[int, ...]) -> int | None:
    """The member that a conversation falls to: always the same as long as they are the same."""
    if not among:
        return None
    name = "\0".join((conversation.channel, conversation.chat, conversation.thread))
    return among[crc32(name.encode("utf-8", "replace")) % len(among)]


def tell_next(connection: Connection, table: Table, conversation: ConversationKey, member: int) -> None:
    """Tell the owner of what is now the oldest of a conversation that its turn has come."""
    number = table.primary_key.columns[0]
    oldest = (
        select(number, table.c.owner)
        .where(is_open[table], *of(table, conversation))
        .order_by(number)
        .limit(1)
    )
    row = connection.execute(oldest).one_or_none()
    if row is not None and row.owner not in (None, member):
        tell(connection, Notice(row.owner, "inbox" if table is inbox else "outbox", row[0]))


def is_behind(connection: Connection, table: Table, conversation: ConversationKey, number: int) -> bool:
    """Whether something older of the conversation is open."""
    key = table.primary_key.columns[0]
    older = select(key).where(is_open[table], *of(table, conversation), key < number).limit(1)
    return connection.scalar(older) is not None


def of(table: Table, conversation: ConversationKey) -> tuple[ColumnElement[bool], ...]:
    """The rows of a conversation."""
    return (
        table.c.channel == conversation.channel,
        table.c.chat == conversation.chat,
        table.c.thread == conversation.thread,
    )
