"""The tables of the database, and the numbered migration steps that create them.

The steps are written out, not derived from the tables, because a released step never changes; a test compares
their result with the tables below. The database stores the number of applied steps: SQLite in
`PRAGMA user_version`, PostgreSQL in the table `schema_version`.

Features of one database (partial indexes, AUTOINCREMENT) are only in its steps: a table that uses them makes
SQLAlchemy load the dialect of that database, which takes megabytes, on every host.

In PostgreSQL the bots of the last release continue to work while the first of the new ones applies the steps:
a step only adds.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    literal_column,
    text,
)

from clawd_runtime.errors import StoreError

LEAST_FREE = 512 * 1024
"""Bytes that must be free on the database's disk for a bot to be ready."""

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
    Column("outcome", String),  # null until the message is handled
    Column("done_at", Float),
    Column("owner", Integer),  # the member that handles it; null if none does, and when it is handled
    Column("verdict", String),  # of the rate limit; null until judged
    Column("context", String),  # JSON: parts that are not text, and the message it refers to; null for none
    Column("attempts", Integer),  # how often a model was asked; null for never
    Column("model", String),  # that gave the answer; null if none did
    Column("route", Integer),  # version of the routes by which it was asked
    Column("stopped", Integer),  # 1 if its sender does not want an answer any more; else null
    UniqueConstraint("channel", "event_id"),
    UniqueConstraint("channel", "message_id"),
)
inbox_open = Index("inbox_open", inbox.c.channel, inbox.c.chat, inbox.c.thread, inbox.c.seq)
inbox_judged = Index("inbox_judged", inbox.c.channel, inbox.c.user_id, inbox.c.received_at)

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
    Column("owner", Integer),  # the member that sends it; null if none does, and when it is finished
    Column("formatting", String),  # of the text, as the channel has made it; null for plain text
    Column("explained", Integer),  # 1 if a later answer says that this one may not have arrived; else null
)
outbox_of_event = Index("outbox_of_event", outbox.c.channel, outbox.c.event_id)
outbox_open = Index("outbox_open", outbox.c.channel, outbox.c.chat, outbox.c.thread, outbox.c.id)

outbox_failed = Index("outbox_failed", outbox.c.state)

streams = Table(
    "streams",
    metadata,
    Column("channel", String, primary_key=True),
    Column("event_id", String, primary_key=True),
    Column("ref", String, nullable=False),  # of the channel; empty until the platform has returned it
    Column("sequence", Integer, nullable=False),  # the last number that an update may have used
    Column("digest", String, nullable=False),  # of what was shown last, or is being shown
    Column("state", String, nullable=False),  # opening, open, lost, ended
    Column("updated_at", Float, nullable=False),
)

pace = Table(
    "pace",
    metadata,
    Column("channel", String, primary_key=True),
    Column("scope", String, primary_key=True),
    Column("full_at", Float, nullable=False),  # when the bucket is full again
    Column("refused_until", Float, nullable=False),  # the platform refuses calls until then
    Column("of_chat", Integer, nullable=False),
)

# Literals instead of parameters: SQLite uses a partial index only for the same literal condition.
is_open = {
    inbox: inbox.c.outcome.is_(None),
    outbox: outbox.c.state.in_((literal_column("'pending'"), literal_column("'sending'"))),
}
"""The condition of an unfinished message or reply."""
has_failed = outbox.c.state.in_((literal_column("'doubtful'"), literal_column("'dead'")))
"""The condition of a reply that did not arrive, or possibly not."""

channel_state = Table(
    "channel_state",
    metadata,
    Column("channel", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

used_tokens = Table(
    "used_tokens",
    metadata,
    Column("token", String, primary_key=True),
    Column("request", String, nullable=False),
    Column("expires_at", Float, nullable=False),
)
Index("used_tokens_expiry", used_tokens.c.expires_at)

page_sessions = Table(
    "page_sessions",
    metadata,
    Column("session", String, primary_key=True),
    Column("user_id", String, nullable=False),
    Column("expires_at", Float, nullable=False),
)

page_titles = Table(
    "page_titles",
    metadata,
    Column("user_id", String, primary_key=True),
    Column("thread", String, primary_key=True),
    Column("title", String, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("channels", String, nullable=False),  # names, each between commas: ",console,telegram,"
    Column("leaving", Integer, nullable=False),
    Column("joined_at", Float, nullable=False),
)

roles = Table(
    "roles",
    metadata,
    Column("name", String, primary_key=True),
    Column("owner", Integer, nullable=False),
)

access_grants = Table(
    "access_grants",
    metadata,
    Column("channel", String, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("granted_by", String, nullable=False),
    Column("granted_at", Float, nullable=False),
)

access_requests = Table(
    "access_requests",
    metadata,
    Column("channel", String, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("digest", String, nullable=False),  # of the code
    Column("chat", String, nullable=False),
    Column("thread", String, nullable=False),
    Column("language", String, nullable=False),
    Column("issued_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
    Column("issued", Integer, nullable=False),  # codes since window_at
    Column("window_at", Float, nullable=False),
)
Index("access_requests_digest", access_requests.c.digest, unique=True)

access_guesses = Table(
    "access_guesses",
    metadata,
    Column("channel", String, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("wrong", Integer, nullable=False),  # codes since window_at
    Column("window_at", Float, nullable=False),
)

token_usage = Table(
    "token_usage",
    metadata,
    Column("day", String, primary_key=True),  # 2026-11-30
    Column("channel", String, primary_key=True),
    Column("user_id", String, primary_key=True),
    Column("chat", String, primary_key=True),  # of a group; empty in private chats
    Column("model", String, primary_key=True),
    Column("answers", Integer, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("answer_tokens", BigInteger, nullable=False),
)

SQLITE_STEPS: tuple[tuple[str, ...], ...] = (
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
    (
        "ALTER TABLE inbox ADD COLUMN owner INTEGER",
        "ALTER TABLE inbox ADD COLUMN verdict VARCHAR",
        "ALTER TABLE outbox ADD COLUMN owner INTEGER",
        "DROP INDEX inbox_open",
        "CREATE INDEX inbox_open ON inbox (channel, chat, thread, seq) WHERE outcome IS NULL",
        "CREATE INDEX inbox_judged ON inbox (channel, user_id, received_at) WHERE verdict IS NOT NULL",
        "DROP INDEX outbox_open",
        """CREATE INDEX outbox_open ON outbox (channel, chat, thread, id)
            WHERE state IN ('pending', 'sending')""",
        """CREATE TABLE members (
            id INTEGER NOT NULL PRIMARY KEY, channels VARCHAR NOT NULL, leaving INTEGER NOT NULL,
            joined_at FLOAT NOT NULL)""",
        "CREATE TABLE roles (name VARCHAR NOT NULL PRIMARY KEY, owner INTEGER NOT NULL)",
    ),
)

POSTGRES_STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE inbox (
            seq SERIAL NOT NULL PRIMARY KEY,
            channel VARCHAR NOT NULL, event_id VARCHAR NOT NULL, message_id VARCHAR NOT NULL,
            chat VARCHAR NOT NULL, thread VARCHAR NOT NULL, chat_kind VARCHAR NOT NULL,
            user_id VARCHAR NOT NULL, text VARCHAR NOT NULL, addressed INTEGER NOT NULL,
            reply_to VARCHAR NOT NULL, language VARCHAR, received_at FLOAT NOT NULL,
            outcome VARCHAR, done_at FLOAT, owner INTEGER, verdict VARCHAR,
            UNIQUE (channel, event_id), UNIQUE (channel, message_id))""",
        "CREATE INDEX inbox_open ON inbox (channel, chat, thread, seq) WHERE outcome IS NULL",
        "CREATE INDEX inbox_judged ON inbox (channel, user_id, received_at) WHERE verdict IS NOT NULL",
        """CREATE TABLE conversations (
            channel VARCHAR NOT NULL, chat VARCHAR NOT NULL, thread VARCHAR NOT NULL,
            generation INTEGER NOT NULL, PRIMARY KEY (channel, chat, thread))""",
        """CREATE TABLE turns (
            id SERIAL NOT NULL PRIMARY KEY,
            channel VARCHAR NOT NULL, chat VARCHAR NOT NULL, thread VARCHAR NOT NULL,
            generation INTEGER NOT NULL, role VARCHAR NOT NULL, text VARCHAR NOT NULL,
            created_at FLOAT NOT NULL)""",
        "CREATE INDEX turns_of_conversation ON turns (channel, chat, thread, generation, id)",
        """CREATE TABLE outbox (
            id SERIAL NOT NULL PRIMARY KEY,
            key VARCHAR NOT NULL UNIQUE, event_id VARCHAR NOT NULL,
            channel VARCHAR NOT NULL, chat VARCHAR NOT NULL, thread VARCHAR NOT NULL,
            chat_kind VARCHAR NOT NULL, reply_to VARCHAR NOT NULL, text VARCHAR NOT NULL,
            part INTEGER NOT NULL, parts INTEGER NOT NULL, state VARCHAR NOT NULL,
            attempts INTEGER NOT NULL, created_at FLOAT NOT NULL, first_attempt_at FLOAT,
            not_before FLOAT NOT NULL, finished_at FLOAT, sent_ref VARCHAR, problem VARCHAR,
            owner INTEGER)""",
        "CREATE INDEX outbox_of_event ON outbox (channel, event_id)",
        """CREATE INDEX outbox_open ON outbox (channel, chat, thread, id)
            WHERE state IN ('pending', 'sending')""",
        """CREATE TABLE channel_state (
            channel VARCHAR NOT NULL, name VARCHAR NOT NULL, value VARCHAR NOT NULL,
            PRIMARY KEY (channel, name))""",
        """CREATE TABLE members (
            id INTEGER NOT NULL PRIMARY KEY, channels VARCHAR NOT NULL, leaving INTEGER NOT NULL,
            joined_at FLOAT NOT NULL)""",
        "CREATE SEQUENCE member_numbers AS INTEGER",
        "CREATE TABLE roles (name VARCHAR NOT NULL PRIMARY KEY, owner INTEGER NOT NULL)",
    ),
)

# Not counted as a step, so that the last release can still open a database that this one has migrated.
WITHOUT_A_STEP = (
    "CREATE INDEX IF NOT EXISTS outbox_failed ON outbox (state) WHERE state IN ('doubtful', 'dead')",
    """CREATE TABLE IF NOT EXISTS used_tokens (
        token VARCHAR NOT NULL PRIMARY KEY, request VARCHAR NOT NULL, expires_at FLOAT NOT NULL)""",
    "CREATE INDEX IF NOT EXISTS used_tokens_expiry ON used_tokens (expires_at)",
    """CREATE TABLE IF NOT EXISTS streams (
        channel VARCHAR NOT NULL, event_id VARCHAR NOT NULL, ref VARCHAR NOT NULL,
        sequence INTEGER NOT NULL, digest VARCHAR NOT NULL, state VARCHAR NOT NULL,
        updated_at FLOAT NOT NULL, PRIMARY KEY (channel, event_id))""",
    """CREATE TABLE IF NOT EXISTS page_sessions (
        session VARCHAR NOT NULL PRIMARY KEY, user_id VARCHAR NOT NULL, expires_at FLOAT NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS page_titles (
        user_id VARCHAR NOT NULL, thread VARCHAR NOT NULL, title VARCHAR NOT NULL,
        PRIMARY KEY (user_id, thread))""",
    """CREATE TABLE IF NOT EXISTS access_grants (
        channel VARCHAR NOT NULL, user_id VARCHAR NOT NULL, granted_by VARCHAR NOT NULL,
        granted_at FLOAT NOT NULL, PRIMARY KEY (channel, user_id))""",
    """CREATE TABLE IF NOT EXISTS access_requests (
        channel VARCHAR NOT NULL, user_id VARCHAR NOT NULL, digest VARCHAR NOT NULL,
        chat VARCHAR NOT NULL, thread VARCHAR NOT NULL, language VARCHAR NOT NULL,
        issued_at FLOAT NOT NULL, expires_at FLOAT NOT NULL, issued INTEGER NOT NULL,
        window_at FLOAT NOT NULL, PRIMARY KEY (channel, user_id))""",
    "CREATE UNIQUE INDEX IF NOT EXISTS access_requests_digest ON access_requests (digest)",
    """CREATE TABLE IF NOT EXISTS access_guesses (
        channel VARCHAR NOT NULL, user_id VARCHAR NOT NULL, wrong INTEGER NOT NULL,
        window_at FLOAT NOT NULL, PRIMARY KEY (channel, user_id))""",
    """CREATE TABLE IF NOT EXISTS token_usage (
        day VARCHAR NOT NULL, channel VARCHAR NOT NULL, user_id VARCHAR NOT NULL,
        chat VARCHAR NOT NULL, model VARCHAR NOT NULL, answers INTEGER NOT NULL,
        prompt_tokens BIGINT NOT NULL, answer_tokens BIGINT NOT NULL,
        PRIMARY KEY (day, channel, user_id, chat, model))""",
    """CREATE TABLE IF NOT EXISTS pace (
        channel VARCHAR NOT NULL, scope VARCHAR NOT NULL, full_at FLOAT NOT NULL,
        refused_until FLOAT NOT NULL, of_chat INTEGER NOT NULL, PRIMARY KEY (channel, scope))""",
)
COLUMNS_WITHOUT_A_STEP = (
    ("inbox", "context", "VARCHAR"),
    ("outbox", "formatting", "VARCHAR"),
    ("inbox", "attempts", "INTEGER"),
    ("inbox", "model", "VARCHAR"),
    ("inbox", "route", "INTEGER"),
    ("outbox", "explained", "INTEGER"),
    ("inbox", "stopped", "INTEGER"),
)


def steps_of(connection: Connection) -> tuple[tuple[str, ...], ...]:
    """Return the steps for this kind of database."""
    return POSTGRES_STEPS if connection.dialect.name == "postgresql" else SQLITE_STEPS


def migrate(connection: Connection) -> None:
    """Apply the missing steps inside the caller's transaction, which must be exclusive.

    Raise `StoreError` if a newer release has migrated the database: this one could misread its content.
    """
    steps = steps_of(connection)
    version = _version(connection)
    if version > len(steps):
        raise StoreError(
            f"cannot use the database: it has schema {version}, this release knows up to {len(steps)}",
            advice="run the newer release again, or restore the database's backup from before it",
        )
    for step in (*steps[version:], WITHOUT_A_STEP):
        for statement in step:
            connection.execute(text(statement))
    for table, column, kind in COLUMNS_WITHOUT_A_STEP:
        if not _has_column(connection, table, column):
            connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {column} {kind}"))
    if version < len(steps):
        _record(connection, len(steps))


def _has_column(connection: Connection, table: str, column: str) -> bool:
    # Checked first: in PostgreSQL, every ALTER TABLE would wait for all users of the table.
    if connection.dialect.name == "postgresql":
        query = (
            "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(:table) AND attname = :column "
            "AND NOT attisdropped"
        )
    else:
        query = "SELECT count(*) FROM pragma_table_info(:table) WHERE name = :column"
    return bool(connection.scalar(text(query), {"table": table, "column": column}))


def _version(connection: Connection) -> int:
    if connection.dialect.name == "postgresql":
        connection.execute(text("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)"))
        return connection.scalar(text("SELECT max(version) FROM schema_version")) or 0
    return connection.scalar(text("PRAGMA user_version")) or 0


def _record(connection: Connection, version: int) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("DELETE FROM schema_version"))
        connection.execute(text("INSERT INTO schema_version VALUES (:version)"), {"version": version})
    else:
        connection.execute(text(f"PRAGMA user_version = {int(version)}"))
