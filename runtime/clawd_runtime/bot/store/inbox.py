"""The inbox: every accepted message, stored once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from clawd_runtime.bot.handling.rate_limit import WINDOW, RateLimitVerdict
from clawd_runtime.bot.store import members, schema
from clawd_runtime.bot.store.backends.inserting import insert_new
from clawd_runtime.bot.store.streams import StreamRecord
from clawd_runtime.bot.text.commands import IN_ORDER, LONGEST_COMMAND, command_of
from clawd_runtime.bot.text.unicode import whole_characters
from clawd_runtime.bot.values import ChatKind, ConversationKey, Inbound, MessagePart, PartKind, Quote

table = schema.inbox
# Messages of one sender that follow each other within so many seconds, and wait, are answered together.
QUICK_SECONDS = 10.0
MOST_JOINED = 20


@dataclass(frozen=True, slots=True)
class Task:
    """A message to handle, with its owner and the verdict of the rate limit (None if not judged).

    `repeated`: it was already taken before, in this run or another. `attempts`: how often a model was asked
    before, without a result that is stored. `stream` is where its answer was already shown then. `doubts` are
    the numbers of earlier replies in the conversation of which it is unknown whether they arrived, and the
    user does not know that. `stopped`: the user does not want an answer any more. `joined` are the numbers of
    the messages that followed, whose texts are part of this one's.
    """

    seq: int
    inbound: Inbound
    member: int
    verdict: RateLimitVerdict | None = None
    repeated: bool = False
    attempts: int = 0
    stream: StreamRecord | None = None
    doubts: tuple[int, ...] = ()
    stopped: bool = False
    joined: tuple[int, ...] = ()


class Behind:
    """A message that cannot be handled yet: an older one of the conversation belongs to another member."""


def add(connection: Connection, inbound: Inbound, owner: int | None) -> int | None:
    """Store a message and return its number; None if its event or message id is known."""
    added = insert_new(connection, table, _columns(inbound) | {"owner": owner})
    return None if added is None else int(added)


def is_out_of_order(inbound: Inbound) -> bool:
    """Return whether a message is a command that does not wait for the answers before it."""
    return inbound.addressed and _is_out_of_order(inbound.text)


def _is_out_of_order(text: str) -> bool:
    return command_of(text) not in ("", IN_ORDER)


def stop_before(connection: Connection, inbound: Inbound, seq: int) -> list[tuple[int, int | None]]:
    """Mark the open messages of a conversation before `seq` as stopped; return numbers and owners."""
    place = inbound.conversation
    mine = () if inbound.chat_kind == "private" else (table.c.user_id == inbound.user,)
    stopped = (
        update(table)
        .where(table.c.outcome.is_(None), table.c.seq < seq, *members.of(table, place), *mine)
        .values(stopped=1)
        .returning(table.c.seq, table.c.owner)
    )
    return [(row.seq, row.owner) for row in connection.execute(stopped)]


def edit(connection: Connection, inbound: Inbound, limit: int, now: float) -> list[tuple[int, int | None]]:
    """Replace the text of an open message; return its number and owner, if there is one.

    If its answer may have begun, the rate limit counts the edit like a message, and over it, nothing changes.
    A command that does not wait for answers, such as /stop, causes no other answer of a model.
    """
    columns = _columns(inbound)
    mine = (
        *(table.c.outcome.is_(None), table.c.channel == inbound.channel),
        *(table.c.message_id == columns["message_id"], table.c.user_id == columns["user_id"]),
    )
    verdict = connection.scalar(select(table.c.verdict).where(*mine))
    asks_again = verdict == RateLimitVerdict.ALLOW.value and not is_out_of_order(inbound)
    if asks_again and not _counted(connection, inbound, limit, now):
        return []
    edited = (
        update(table)
        .where(*mine)
        .values(text=columns["text"], context=columns["context"])
        .returning(table.c.seq, table.c.owner)
    )
    return [(row.seq, row.owner) for row in connection.execute(edited)]


def _counted(connection: Connection, inbound: Inbound, limit: int, now: float) -> bool:
    """Record an edit as a handled message; return False if it is known, or over the rate limit."""
    if _judge(connection, inbound, limit) is not RateLimitVerdict.ALLOW:
        return False
    record = _columns(inbound) | {"message_id": f"edit {whole_characters(inbound.event_id)}", "text": ""}
    handled = {"context": None, "outcome": "edit", "done_at": now, "verdict": RateLimitVerdict.ALLOW.value}
    return insert_new(connection, table, record | handled) is not None


def open_messages(
    connection: Connection, owner: int
) -> tuple[list[tuple[int, ConversationKey]], list[tuple[int, ConversationKey]]]:
    """Return number and conversation of all open messages of this owner, oldest first.

    The second list has the commands that do not wait for the answers before them.
    """
    begun = func.substr(func.ltrim(table.c.text), 1, 2 * LONGEST_COMMAND).label("begun")
    query = select(*(table.c.seq, table.c.channel, table.c.chat, table.c.thread, table.c.addressed), begun)
    rows = connection.execute(query.where(table.c.outcome.is_(None), table.c.owner == owner))
    messages: list[tuple[int, ConversationKey]] = []
    commands: list[tuple[int, ConversationKey]] = []
    # Sorted here: for ORDER BY seq, the database may scan all messages ever stored.
    for row in sorted(rows):
        found = commands if row.addressed and _is_out_of_order(row.begun) else messages
        found.append((row.seq, ConversationKey(row.channel, row.chat, row.thread)))
    return messages, commands


def take(connection: Connection, seq: int, owner: int, limit: int) -> Task | Behind | None:
    """Return the message with this number; None if it is handled or belongs to another owner.

    The rate limit judges it once and stores the verdict: its sender may send `limit` messages in a minute.
    """
    mine = (table.c.seq == seq, table.c.outcome.is_(None), table.c.owner == owner)
    row = connection.execute(select(table).where(*mine)).one_or_none()
    if row is None:
        return None
    inbound = _inbound(row)
    if not is_out_of_order(inbound) and members.is_behind(connection, table, inbound.conversation, seq):
        return Behind()
    if inbound.chat_kind == "group" and not inbound.addressed:
        return Task(seq, inbound, owner)
    verdict = _verdict(connection, row, limit)
    return Task(
        *(seq, inbound, owner, verdict),
        repeated=row.verdict is not None,
        attempts=row.attempts or 0,
        stopped=bool(row.stopped),
    )


def join(connection: Connection, task: Task, limit: int) -> Task:
    """Return a message together with those that its sender wrote in quick succession after it.

    A message at which the bot has ended stays alone: one of several may be the cause.
    """
    inbound = task.inbound
    alone = task.stopped or task.attempts or command_of(inbound.text)
    if task.verdict is not RateLimitVerdict.ALLOW or alone:
        return task
    conversation = members.of(table, inbound.conversation)
    later = (table.c.outcome.is_(None), table.c.seq > task.seq, *conversation)
    rows = connection.execute(select(table).where(*later).order_by(table.c.seq).limit(MOST_JOINED)).all()
    texts, last, joined = [inbound.text], inbound, []
    for row in rows:
        following = _inbound(row)
        if (
            (row.owner, following.user) != (task.member, inbound.user)
            or not following.addressed
            or row.stopped
            or row.context is not None
            or command_of(following.text)
            or abs(following.received_at - last.received_at) > QUICK_SECONDS
            or _verdict(connection, row, limit) is not RateLimitVerdict.ALLOW
        ):
            break
        texts.append(following.text)
        joined.append(row.seq)
        last = following
    whole = replace(inbound, text="\n".join(texts), reply_to=last.reply_to)
    return replace(task, inbound=whole, joined=tuple(joined)) if joined else task


def _verdict(connection: Connection, row: Row[Any], limit: int) -> RateLimitVerdict:
    """Return the verdict on a message, which is made once and stored."""
    if row.verdict is not None:
        return RateLimitVerdict(row.verdict)
    verdict = _judge(connection, _inbound(row), limit)
    connection.execute(update(table).where(table.c.seq == row.seq).values(verdict=verdict.value))
    return verdict


def begin_attempt(connection: Connection, task: Task) -> bool:
    """Count an attempt to have a model answer the message, before it is made.

    Return False, and count nothing, if the message was changed or stopped since it was taken.
    """
    together = (table.c.seq.in_((task.seq, *task.joined)), table.c.outcome.is_(None))
    rows = connection.execute(select(table.c.text, table.c.stopped).where(*together).order_by(table.c.seq))
    found = rows.all()
    if any(row.stopped for row in found) or "\n".join(row.text for row in found) != task.inbound.text:
        return False
    counted = func.coalesce(table.c.attempts, 0) + 1
    connection.execute(
        update(table).where(table.c.seq == task.seq, table.c.owner == task.member).values(attempts=counted)
    )
    return True


def withdraw_attempts(connection: Connection, owner: int, seqs: Sequence[int]) -> None:
    """Count one attempt less at these messages of `owner`, which are left unfinished in an orderly way."""
    open_ones = (table.c.seq.in_(seqs), table.c.owner == owner, table.c.outcome.is_(None))
    connection.execute(
        update(table).where(*open_ones, table.c.attempts > 0).values(attempts=table.c.attempts - 1)
    )


@dataclass(frozen=True, slots=True)
class Answered:
    """The model that has given an answer, and the version of the routes by which it was asked."""

    model: str
    route: int


@dataclass(frozen=True, slots=True)
class Handled:
    """What is recorded of a handled message. Without `keep_text` its text is deleted.

    The ids stay, to recognise duplicates.
    """

    outcome: str
    answered: Answered | None
    keep_text: bool


def settle(connection: Connection, task: Task, handled: Handled, now: float) -> bool:
    """Mark a message as handled; return False if it already was, or no longer belongs to the member."""
    answered = handled.answered
    source = {"model": answered.model, "route": answered.route} if answered else {}
    forgotten = {} if handled.keep_text else {"text": "", "context": None}
    result = connection.execute(
        update(table)
        .where(table.c.seq == task.seq, table.c.outcome.is_(None), table.c.owner == task.member)
        .values(outcome=handled.outcome, done_at=now, owner=None, **source, **forgotten)
    )
    return bool(result.rowcount == 1)


def settle_joined(connection: Connection, seqs: Sequence[int], now: float, *, keep_text: bool) -> None:
    """Mark messages as handled together with an older one.

    They may belong to another member by now, if this one is leaving; that one has not answered them, because
    the older message was open.
    """
    forgotten = {} if keep_text else {"text": "", "context": None}
    open_ones = update(table).where(table.c.seq.in_(seqs), table.c.outcome.is_(None))
    connection.execute(open_ones.values(outcome="joined", done_at=now, owner=None, **forgotten))


def is_held(connection: Connection, task: Task) -> bool:
    """Return whether a message is open and still belongs to the member that has taken it."""
    mine = (table.c.seq == task.seq, table.c.outcome.is_(None), table.c.owner == task.member)
    return connection.scalar(select(table.c.seq).where(*mine)) is not None


def outcome(connection: Connection, channel: str, event_id: str) -> str | None:
    """Return the outcome of an event; None if it is unknown or not handled."""
    query = select(table.c.outcome).where(table.c.channel == channel, table.c.event_id == event_id)
    return cast("str | None", connection.scalar(query))


def depth(connection: Connection) -> int:
    """Return how many messages of all members wait."""
    return connection.scalar(select(func.count()).where(table.c.outcome.is_(None))) or 0


def purge(connection: Connection, before: float) -> int:
    """Delete messages handled before this time and return how many; duplicates of them would count as new."""
    return connection.execute(delete(table).where(table.c.done_at < before)).rowcount


def set_state(connection: Connection, channel: str, state: Mapping[str, str]) -> None:
    """Store values of a channel."""
    values = schema.channel_state
    for name, value in state.items():
        place = (values.c.channel == channel) & (values.c.name == name)
        if connection.execute(update(values).where(place).values(value=value)).rowcount == 0:
            connection.execute(insert(values).values(channel=channel, name=name, value=value))


def get_state(connection: Connection, channel: str, name: str) -> str | None:
    """Return a value of a channel; None if it is not stored."""
    values = schema.channel_state
    query = select(values.c.value).where(values.c.channel == channel, values.c.name == name)
    return cast("str | None", connection.scalar(query))


def keep_state(connection: Connection, channel: str, names: Collection[str]) -> None:
    """Delete all values of a channel but those with these names."""
    values = schema.channel_state
    others = (values.c.channel == channel) & values.c.name.not_in(names)
    connection.execute(delete(values).where(others))


def _judge(connection: Connection, inbound: Inbound, limit: int) -> RateLimitVerdict:
    judged = (table.c.channel == inbound.channel, table.c.user_id == inbound.user)
    # Later messages count, too: they may have been judged before. Messages far in the future were received
    # before the clock was set back.
    minute = (
        table.c.received_at > inbound.received_at - WINDOW,
        table.c.received_at < inbound.received_at + WINDOW,
    )
    recent = select(func.count()).where(*judged, table.c.verdict == RateLimitVerdict.ALLOW.value, *minute)
    allowed: int = connection.scalar(recent) or 0
    if allowed < limit:
        return RateLimitVerdict.ALLOW
    answered = table.c.verdict.in_((RateLimitVerdict.ALLOW.value, RateLimitVerdict.EXPLAIN.value))
    last = select(table.c.verdict).where(*judged, answered).order_by(table.c.seq.desc()).limit(1)
    return (
        RateLimitVerdict.IGNORE
        if connection.scalar(last) == RateLimitVerdict.EXPLAIN.value
        else RateLimitVerdict.EXPLAIN
    )


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
        "context": _context(inbound),
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
        **_from_context(row.context),
    )


def _context(inbound: Inbound) -> str | None:
    quote = inbound.quote
    if not inbound.parts and quote is None and not inbound.outside:
        return None
    context: dict[str, Any] = {"parts": _pairs(inbound.parts)}
    if inbound.outside:
        context["outside"] = True
    if quote is not None:
        text, ref = whole_characters(quote.text), whole_characters(quote.ref)
        context["quote"] = {"text": text, "parts": _pairs(quote.parts), "ref": ref}
    return json.dumps(context, ensure_ascii=False)


def _pairs(parts: tuple[MessagePart, ...]) -> list[list[str]]:
    return [[part.kind, whole_characters(part.name)] for part in parts]


def _from_context(stored: str | None) -> dict[str, Any]:
    if stored is None:
        return {}
    context = json.loads(stored)
    quote = context.get("quote")
    return {
        "parts": _parts(context["parts"]),
        "quote": quote and Quote(quote["text"], _parts(quote["parts"]), quote["ref"]),
        "outside": context.get("outside", False),
    }


def _parts(stored: list[list[str]]) -> tuple[MessagePart, ...]:
    return tuple(MessagePart(cast(PartKind, kind), name) for kind, name in stored)
