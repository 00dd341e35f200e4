"""Tables, and the numbered steps that lead to them.

The steps are written out, not derived from the tables, because a step that has once been released never
changes; a test compares what they make with the tables below. `PRAGMA user_version` counts steps done.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)

from clawd_runtime.errors import StoreError

metadata = MetaData()

inbox = Table(
    "inbox",
    metadata,
    Column("seq", Integer, primary_key=True, autoincrement=True),
    Column("channel", String, nullable=False),
    Column("event_id", String, nullable=False),
    Column("message_id", String, nullable=False),
    Column("chat", String, nullable=False),
    Column("thread", String, nullable=False),
    Column("chat_kind", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("text", String, nullable=False),
    Column("addressed", Integer, nullable=False),
    Column("reply_to", String, nullable=False),
    Column("language", String),
    Column("received_at", Float, nullable=False),
    Column("outcome", String),  # null until the message is dealt with
    Column("done_at", Float),
    UniqueConstraint("channel", "event_id"),
    UniqueConstraint("channel", "message_id"),
    sqlite_autoincrement=True,
)
inbox_open = Index("inbox_open", inbox.c.seq, sqlite_where=inbox.c.outcome.is_(None))

conversations = Table(
    "conversations",
    metadata,
    Column("channel", String, primary_key=True),
    Column("chat", String, primary_key=True),
    Column("thread", String, primary_key=True),
    Column("generation", Integer, nullable=False),
)

turns = Table(
    "turns",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("channel", String, nullable=False),
    Column("chat", String, nullable=False),
    Column("thread", String, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("role", String, nullable=False),
    Column("text", String, nullable=False),
    Column("created_at", Float, nullable=False),
    sqlite_autoincrement=True,
)
turns_of_conversation = Index(
    "turns_of_conversation", turns.c.channel, turns.c.chat, turns.c.thread, turns.c.generation, turns.c.id
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("key", String, nullable=False, unique=True),
    Column("event_id", String, nullable=False),
    Column("channel", String, nullable=False),
    Column("chat", String, nullable=False),
    Column("thread", String, nullable=False),
    Column("chat_kind", String, nullable=False),
    Column("reply_to", String, nullable=False),
    Column("text", String, nullable=False),
    Column("part", Integer, nullable=False),
    Column("parts", Integer, nullable=False),
    Column("state", String, nullable=False),  # pending, sending, sent, doubtful, dead
    Column("attempts", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("first_attempt_at", Float),
    Column("not_before", Float, nullable=False),
    Column("finished_at", Float),
    Column("sent_ref", String),
    Column("problem", String),
    sqlite_autoincrement=True,
)
outbox_of_event = Index("outbox_of_event", outbox.c.channel, outbox.c.event_id)
outbox_open = Index("outbox_open", outbox.c.id, sqlite_where=outbox.c.state.in_(("pending", "sending")))

channel_state = Table(
    "channel_state",
    metadata,
    Column("channel", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE inbox (
            seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            channel VARCHAR NOT NULL, event_id VARCHAR NOT NULL, message_id VARCHAR NOT NULL,
            chat VARCHAR NOT NULL, thread VARCHAR NOT NULL, chat_kind VARCHAR NOT NULL,
            user_id VARCHAR NOT NULL, text VARCHAR NOT NULL, addressed INTEGER NOT NULL,
            reply_to VARCHAR NOT NULL, language VARCHAR, received_at FLOAT NOT NULL,
            outcome VARCHAR, done_at FLOAT,
            UNIQUE (channel, event_id), UNIQUE (channel, message_id))""",
        "CREATE INDEX inbox_open ON inbox (seq) WHERE outcome IS NULL",
        """CREATE TABLE conversations (
            channel VARCHAR NOT NULL, chat VARCHAR NOT NULL, thread VARCHAR NOT NULL,
            generation INTEGER NOT NULL, PRIMARY KEY (channel, chat, thread))""",
        """CREATE TABLE turns (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            channel VARCHAR NOT NULL, chat VARCHAR NOT NULL, thread VARCHAR NOT NULL,
            generation INTEGER NOT NULL, role VARCHAR NOT NULL, text VARCHAR NOT NULL,
            created_at FLOAT NOT NULL)""",
        "CREATE INDEX turns_of_conversation ON turns (channel, chat, thread, generation, id)",
        """CREATE TABLE outbox (
            id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
            key VARCHAR NOT NULL UNIQUE, event_id VARCHAR NOT NULL,
            channel VARCHAR NOT NULL, chat VARCHAR NOT NULL, thread VARCHAR NOT NULL,
            chat_kind VARCHAR NOT NULL, reply_to VARCHAR NOT NULL, text VARCHAR NOT NULL,
            part INTEGER NOT NULL, parts INTEGER NOT NULL, state VARCHAR NOT NULL,
            attempts INTEGER NOT NULL, created_at FLOAT NOT NULL, first_attempt_at FLOAT,
            not_before FLOAT NOT NULL, finished_at FLOAT, sent_ref VARCHAR, problem VARCHAR)""",
        "CREATE INDEX outbox_of_event ON outbox (channel, event_id)",
        "CREATE INDEX outbox_open ON outbox (id) WHERE state IN ('pending', 'sending')",
        """CREATE TABLE channel_state (
            channel VARCHAR NOT NULL, name VARCHAR NOT NULL, value VARCHAR NOT NULL,
            PRIMARY KEY (channel, name))""",
    ),
)


def migrate(connection: Connection) -> None:
    """Do the steps that this database has not seen, inside the caller's transaction.

    Raises `StoreError` when a newer release has written it: going back would misread what it holds.
    """
    version: int = connection.scalar(text("PRAGMA user_version")) or 0
    if version > len(STEPS):
        raise StoreError(
            f"the database has schema {version}, this release knows up to {len(STEPS)}",
            advice="run the newer release again, or put the database's backup of that time back",
        )
    for step in STEPS[version:]:
        for statement in step:
            connection.execute(text(statement))
    connection.execute(text(f"PRAGMA user_version = {len(STEPS)}"))
