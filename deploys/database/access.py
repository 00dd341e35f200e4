"""The single login and the single database, with no more rights than the bots need."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import SecretStr
from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.database import scram
from deploys.database.server import PSQL, ClustersFact
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact, keyed
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script
from deploys.topology.database import NAME

RESERVED_CONNECTIONS = 5
"""How many of `max_connections` are kept for maintenance, backups and metrics."""


@dataclass(frozen=True, slots=True)
class AccessState:
    """The login and its database on the server; `answers` is false when the server could not be asked."""

    answers: bool = False
    role: str = ""
    verifier_head: str = ""
    verifier_digest: str = ""
    database: str = ""


class AccessFact(Fact):
    """State of the login and its database. Of the password's verifier only salt and digest are printed."""

    def command(self) -> str:
        """Return a script that prints `key=value` lines."""
        return assignments(name=NAME) + _ASK

    @staticmethod
    def default() -> AccessState:
        """Return that nothing is known."""
        return AccessState()

    def process(self, output: list[str]) -> AccessState:
        """Turn the script's lines into an `AccessState`."""
        values = keyed(output)
        head, _, digest = values.get("verifier", "").rpartition("|")
        role, database = values.get("role", ""), values.get("database", "")
        return AccessState("answers" in values, role, head, digest, database)


_ASK = program("deploys/database/scripts/access.sh")


def expected_role(limit: int) -> str:
    """Return the correct value of `AccessState.role`: a login, nothing more, member of nothing."""
    return f"t,f,f,f,f,f,{limit},0"


EXPECTED_DATABASE = f"{NAME},UTF8,f,pg_database_owner,f"
"""The correct value of `AccessState.database`: owned by the login, closed to all others, as is its schema."""


def granted(password: SecretStr, max_connections: int, **arguments: Any) -> OperationMeta:
    """Create the login `clawd` with this password and access to its own database `clawd` only."""
    arguments.setdefault("name", f"Database and login {NAME}")
    return _granted(password, max_connections - RESERVED_CONNECTIONS, **arguments)


@operation
def _granted(password: SecretStr, limit: int) -> Iterator[StringCommand]:
    state: AccessState = host.get_fact(AccessFact)
    if not state.answers and host.get_fact(ClustersFact):
        return  # a server that is down, in a plan: its state is read again when the plan is applied
    known = scram.fits(password.get_secret_value(), state.verifier_head, state.verifier_digest)
    different = tuple(differences(state, known, limit))
    if not different:
        return
    record(Change(f"database {NAME}", different))
    proof = "" if known else f" PASSWORD '{scram.verifier(password.get_secret_value())}'"
    yield script(PSQL + "sql postgres", stdin=_GRANT.format(name=NAME, limit=limit, password=proof))


def differences(state: AccessState, password_known: bool, limit: int) -> Iterator[str]:
    """Yield the differences from the declared state, in words."""
    if not state.role:
        yield "new login and database"
        return
    if state.role != expected_role(limit):
        yield f"rights of the login: {state.role} → {expected_role(limit)}"
    if not password_known:
        yield "another password"
    if not state.database:
        yield "new database"
    elif state.database != EXPECTED_DATABASE:
        yield f"rights on the database: {state.database} → {EXPECTED_DATABASE}"


# By standard input, and with logging off: the verifier appears in no log. The collation is by bytes, so no
# update of the C library changes the order of an index.
_GRANT = r"""
SET log_statement = 'none'; SET log_min_duration_statement = -1; SET log_min_error_statement = 'panic';
SELECT 'CREATE ROLE {name}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \gexec
ALTER ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS
    CONNECTION LIMIT {limit}{password};
SELECT format('REVOKE %s FROM {name}', roleid::regrole::text) FROM pg_auth_members
    WHERE member = '{name}'::regrole \gexec
SELECT 'CREATE DATABASE {name} OWNER {name} TEMPLATE template0 ENCODING ''UTF8''
    LC_COLLATE ''C'' LC_CTYPE ''C.UTF-8'''
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '{name}') \gexec
ALTER DATABASE {name} OWNER TO {name};
REVOKE ALL ON DATABASE {name} FROM PUBLIC;
\connect {name}
ALTER SCHEMA public OWNER TO pg_database_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
"""
