"""Messages of psycopg's errors, for the operations and for the presence of a member."""

from __future__ import annotations

import psycopg


def reason_of(error: BaseException) -> str:
    """Return the message of a psycopg error in one line, without the values of a statement."""
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        return f"{error.diag.message_primary} ({error.sqlstate})"
    return " ".join(str(error).split()) or type(error).__name__
