"""Insertion of rows that may already exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Table


def insert_new(connection: Connection, table: Table, values: Mapping[str, Any]) -> Any:
    """Insert a row and return its primary key; None if a unique constraint prevents it."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    statement = insert(table).values(**values).on_conflict_do_nothing()
    return connection.scalar(statement.returning(table.primary_key.columns[0]))
