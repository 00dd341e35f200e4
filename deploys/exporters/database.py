"""The login of the PostgreSQL exporter: it may read the server's state, and no data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.database.server import PSQL
from deploys.exporters.exporter import ACCOUNT
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact, keyed
from deploys.ops.run_state import Change
from deploys.ops.shell import script

RIGHTS = "t,f,f,f,f,f,pg_monitor"
"""May log in; no superuser, creates no databases or roles, replicates and bypasses nothing; its groups."""


@dataclass(frozen=True, slots=True)
class LoginState:
    """Whether the server `answers`, and the rights of the login; empty when there is none."""

    answers: bool = False
    rights: str = ""


class ExporterLoginFact(Fact):
    """State of the exporter's login."""

    def command(self) -> str:
        """Return a script that prints `key=value` lines."""
        return PSQL + _ASK

    @staticmethod
    def default() -> LoginState:
        """Return that nothing is known."""
        return LoginState()

    def process(self, output: list[str]) -> LoginState:
        """Turn the script's lines into a `LoginState`."""
        values = keyed(output)
        return LoginState("answers" in values, values.get("rights", ""))


def login(**arguments: Any) -> OperationMeta:
    """Create a login for the user `prometheus` of this host; the kernel identifies it (peer): no password."""
    arguments.setdefault("name", f"PostgreSQL login {ACCOUNT}")
    return _login(**arguments)


def no_login(**arguments: Any) -> OperationMeta:
    """Remove that login, where a server answers."""
    arguments.setdefault("name", f"No PostgreSQL login {ACCOUNT}")
    return _no_login(**arguments)


@operation
def _login() -> Iterator[StringCommand]:
    state: LoginState = host.get_fact(ExporterLoginFact)
    if state.rights == RIGHTS:
        return
    record(Change(f"PostgreSQL login {ACCOUNT}", (f"rights {state.rights or 'none'} → {RIGHTS}",)))
    yield script(PSQL + "sql postgres", stdin=_GRANT)


@operation
def _no_login() -> Iterator[StringCommand]:
    state: LoginState = host.get_fact(ExporterLoginFact)
    if state.rights:
        record(Change(f"PostgreSQL login {ACCOUNT}", ("removed",)))
        yield script(PSQL + "sql postgres", stdin=f"DROP ROLE {ACCOUNT};\n")


# ACCOUNT is a constant; no value from outside is part of these statements.
_ASK = rf"""
sql postgres 2>/dev/null <<'SQL' || true
SELECT 'answers=yes';
SELECT 'rights=' || concat_ws(',', rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication,
    rolbypassrls, (SELECT string_agg(roleid::regrole::text, '+') FROM pg_auth_members WHERE member = r.oid))
    FROM pg_roles r WHERE rolname = '{ACCOUNT}';
SQL
"""  # noqa: S608
_GRANT = f"""
SELECT 'CREATE ROLE {ACCOUNT}' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{ACCOUNT}') \\gexec
ALTER ROLE {ACCOUNT} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
SELECT format('REVOKE %s FROM {ACCOUNT}', roleid::regrole::text) FROM pg_auth_members
    WHERE member = '{ACCOUNT}'::regrole AND roleid <> 'pg_monitor'::regrole \\gexec
GRANT pg_monitor TO {ACCOUNT};
"""  # noqa: S608
