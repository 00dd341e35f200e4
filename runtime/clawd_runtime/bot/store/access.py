"""Granted access, requests for access, and the usage of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, func, insert, select, update

from clawd_runtime.bot.access.values import (
    AccessChange,
    AccessRevoked,
    CodeApproved,
    CodeIssued,
    CodeRefused,
    Grant,
    Guesses,
    PairingRequest,
    Person,
    TokensUsed,
    UsageToday,
)
from clawd_runtime.bot.store.schema import access_grants as grants
from clawd_runtime.bot.store.schema import access_guesses as guesses_table
from clawd_runtime.bot.store.schema import access_requests as requests
from clawd_runtime.bot.store.schema import token_usage as usage
from clawd_runtime.bot.values import ConversationKey


@dataclass(frozen=True, slots=True)
class UsageRow:
    """The tokens of a person's answers by one model in one place on one day; `chat` is empty if private."""

    day: str
    channel: str
    user: str
    chat: str
    model: str
    answers: int
    prompt_tokens: int
    answer_tokens: int


def is_granted(connection: Connection, channel: str, user: str) -> bool:
    """Return whether an administrator has granted access to a person."""
    query = select(grants.c.granted_at).where(_of(grants, channel, user))
    return connection.scalar(query) is not None


def request_of(connection: Connection, channel: str, user: str) -> PairingRequest | None:
    """Return the last request of a person."""
    row = connection.execute(select(requests).where(_of(requests, channel, user))).one_or_none()
    return None if row is None else _request(row)


def request_with(connection: Connection, digest: str) -> PairingRequest | None:
    """Return the request whose code has this digest."""
    row = connection.execute(select(requests).where(requests.c.digest == digest)).one_or_none()
    return None if row is None else _request(row)


def pending(connection: Connection, channel: str, now: float) -> int:
    """Return how many requests of a channel wait with a valid code."""
    query = select(func.count()).where(requests.c.channel == channel, requests.c.expires_at > now)
    return connection.scalar(query) or 0


def guesses_of(connection: Connection, channel: str, user: str) -> Guesses:
    """Return the wrong codes that an administrator has entered."""
    table = guesses_table
    row = connection.execute(select(table).where(_of(table, channel, user))).one_or_none()
    return Guesses() if row is None else Guesses(row.wrong, row.window_at)


def all_grants(connection: Connection) -> list[Grant]:
    """Return every grant, by channel and person."""
    rows = connection.execute(select(grants).order_by(grants.c.channel, grants.c.user_id))
    return [Grant(row.channel, row.user_id, row.granted_by, row.granted_at) for row in rows]


def all_requests(connection: Connection, now: float) -> list[PairingRequest]:
    """Return the requests with a valid code, oldest first."""
    query = select(requests).where(requests.c.expires_at > now).order_by(requests.c.issued_at)
    return [_request(row) for row in connection.execute(query)]


def apply(connection: Connection, change: AccessChange) -> None:
    """Store a change. Writing transactions follow one another, so none is lost."""
    match change:
        case CodeIssued(request):
            _replace(connection, requests, request.channel, request.user, _request_columns(request))
        case CodeApproved(grant):
            connection.execute(delete(requests).where(_of(requests, grant.channel, grant.user)))
            granted = {"granted_by": grant.by, "granted_at": grant.at}
            _replace(connection, grants, grant.channel, grant.user, granted)
        case CodeRefused(channel, user, guesses):
            counted = {"wrong": guesses.count, "window_at": guesses.window_at}
            _replace(connection, guesses_table, channel, user, counted)
        case AccessRevoked(channel, user):
            for table in (grants, requests):
                connection.execute(delete(table).where(_of(table, channel, user)))


def add_usage(connection: Connection, day: str, person: Person, used: TokensUsed) -> None:
    """Add the tokens of an answer to those of the day."""
    place = {
        "day": day,
        "channel": person.conversation.channel,
        "user_id": person.user,
        "chat": person.conversation.chat if person.chat_kind == "group" else "",
        "model": used.model,
    }
    same = [usage.c[name] == value for name, value in place.items()]
    added = {
        "answers": usage.c.answers + 1,
        "prompt_tokens": usage.c.prompt_tokens + used.prompt,
        "answer_tokens": usage.c.answer_tokens + used.answer,
    }
    if connection.execute(update(usage).where(*same).values(added)).rowcount == 0:
        first = {"answers": 1, "prompt_tokens": used.prompt, "answer_tokens": used.answer}
        connection.execute(insert(usage).values(place | first))


def usage_today(connection: Connection, day: str, person: Person, *, with_models: bool) -> UsageToday:
    """Return the tokens of a day: of a person in all places, of the group, and of models if asked for."""
    tokens = func.coalesce(func.sum(usage.c.prompt_tokens + usage.c.answer_tokens), 0)
    today = (usage.c.day == day, usage.c.channel == person.conversation.channel)
    mine = connection.scalar(select(tokens).where(*today, usage.c.user_id == person.user)) or 0
    group = 0
    if person.group:
        chat = person.conversation.chat
        group = connection.scalar(select(tokens).where(*today, usage.c.chat == chat)) or 0
    models: dict[str, int] = {}
    if with_models:
        by_model = select(usage.c.model, tokens).where(usage.c.day == day).group_by(usage.c.model)
        models = {row[0]: int(row[1]) for row in connection.execute(by_model)}
    return UsageToday(int(mine), int(group), models)


def usage_rows(connection: Connection, since: str, until: str) -> Iterator[UsageRow]:
    """Yield the usage from one day to another, both included, in order."""
    query = select(usage).where(usage.c.day >= since, usage.c.day <= until)
    ordered = query.order_by(usage.c.day, usage.c.channel, usage.c.user_id, usage.c.chat, usage.c.model)
    for row in connection.execute(ordered):
        yield UsageRow(
            *(row.day, row.channel, row.user_id, row.chat, row.model),
            *(row.answers, row.prompt_tokens, row.answer_tokens),
        )


def purge(connection: Connection, now: float, oldest_day: str) -> int:
    """Delete requests and guesses that no longer limit anybody, and usage before a day; return how many."""
    stale = now - 24 * 3600.0
    deleted = (
        delete(requests).where(requests.c.issued_at < stale),
        delete(guesses_table).where(guesses_table.c.window_at < stale),
        delete(usage).where(usage.c.day < oldest_day),
    )
    return sum(connection.execute(each).rowcount for each in deleted)


def _of(table: Table, channel: str, user: str) -> ColumnElement[bool]:
    return (table.c.channel == channel) & (table.c.user_id == user)


def _replace(connection: Connection, table: Table, channel: str, user: str, values: dict[str, Any]) -> None:
    if connection.execute(update(table).where(_of(table, channel, user)).values(values)).rowcount == 0:
        connection.execute(insert(table).values(channel=channel, user_id=user, **values))


def _request_columns(request: PairingRequest) -> dict[str, Any]:
    return {
        "digest": request.digest,
        "chat": request.conversation.chat,
        "thread": request.conversation.thread,
        "language": request.language,
        "issued_at": request.issued_at,
        "expires_at": request.expires_at,
        "issued": request.issued,
        "window_at": request.window_at,
    }


def _request(row: Row[Any]) -> PairingRequest:
    return PairingRequest(
        channel=row.channel,
        user=row.user_id,
        digest=row.digest,
        conversation=ConversationKey(row.channel, row.chat, row.thread),
        language=row.language,
        issued_at=row.issued_at,
        expires_at=row.expires_at,
        issued=row.issued,
        window_at=row.window_at,
    )
