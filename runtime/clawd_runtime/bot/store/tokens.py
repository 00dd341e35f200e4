"""Used single-use tokens, stored until they expire."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, select

from clawd_runtime.bot.ports import TokenUse
from clawd_runtime.bot.store.schema import used_tokens

MOST_TOKENS = 100_000
"""The maximum number of stored tokens; no further token is accepted until some have expired."""
CLOCK_DIFFERENCE = 300.0
"""Seconds for which an expired token is kept: another bot's clock may be behind."""


def use(connection: Connection, token: str, request: str, expires_at: float, now: float) -> TokenUse:
    """See `ports.Inbox.use_token`. Writing transactions of all bots follow one another."""
    connection.execute(delete(used_tokens).where(used_tokens.c.expires_at < now - CLOCK_DIFFERENCE))
    before = connection.scalar(select(used_tokens.c.request).where(used_tokens.c.token == token))
    if before is None:
        if (connection.scalar(select(func.count()).select_from(used_tokens)) or 0) >= MOST_TOKENS:
            return "full"
        values = {"token": token, "request": request, "expires_at": expires_at}
        connection.execute(used_tokens.insert().values(values))
        return "new"
    return "same" if before == request else "other"
