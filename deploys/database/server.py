"""PostgreSQL's server: its cluster, and whether it runs with its files on disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.database.settings import DATA
from deploys.ops.diff import expected, operation, record
from deploys.ops.facts import Fact, keyed
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script

CLUSTER = "main"
MOVED = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")
"""Files of a cluster's configuration that pg_createcluster uses again together with the data."""
MADE = ("environment", "pg_ctl.conf", "start.conf")
"""The other files that it creates."""
SETTINGS = ("conf.d/10-clawd.conf", "conf.d/20-clawd.conf")
"""Our files: the first is read only at the server's start, the second also when it is reloaded."""

PSQL = program("deploys/database/scripts/sql.sh")


def config_folder(version: str) -> str:
    """Return the folder with the configuration of our cluster."""
    return f"/etc/postgresql/{version}/{CLUSTER}"


class ClustersFact(Fact):
    """The clusters that are configured on a host, each `VERSION/NAME`."""

    def command(self) -> str:
        """Return a script that prints one per line."""
        return _CLUSTERS

    @staticmethod
    def default() -> tuple[str, ...]:
        """Return no cluster."""
        return ()

    def process(self, output: list[str]) -> tuple[str, ...]:
        """Return the lines."""
        return tuple(filter(None, output))


_CLUSTERS = r"""
cd /etc/postgresql 2>/dev/null || exit 0
ls -d */*/postgresql.conf 2>/dev/null | sed 's|/[^/]*$||'
"""


class OwnDataFact(Fact):
    """The folders with data of our clusters, also of those that are no longer configured."""

    def command(self) -> str:
        """Return a script that prints one per line."""
        return f"ls -d {DATA}/*/{CLUSTER} 2>/dev/null || true"

    @staticmethod
    def default() -> tuple[str, ...]:
        """Return no folder."""
        return ()

    def process(self, output: list[str]) -> tuple[str, ...]:
        """Return the lines."""
        return tuple(filter(None, output))


def cluster(version: str, **arguments: Any) -> OperationMeta:
    """Create our cluster; data of one that was removed is used again."""
    arguments.setdefault("name", f"PostgreSQL {version}")
    return _cluster(version, **arguments)


@operation
def _cluster(version: str) -> Iterator[StringCommand]:
    if f"{version}/{CLUSTER}" in host.get_fact(ClustersFact):
        return
    if not expected(host, "packages"):
        # Debian's package creates it, or uses its data again, while it is installed.
        record(Change(config_folder(version), ("new cluster",)))
    yield script(_CLUSTER, version=version, name=CLUSTER)


_CLUSTER = program("deploys/database/scripts/cluster.sh")


def dissolved(version: str, **arguments: Any) -> OperationMeta:
    """Remove the configuration of our stopped cluster; `cluster` can use its data again.

    Without a configuration, removing Debian's packages finds no data to remove.
    """
    arguments.setdefault("name", f"No PostgreSQL {version}")
    return _dissolved(version, **arguments)


@operation
def _dissolved(version: str) -> Iterator[StringCommand]:
    if f"{version}/{CLUSTER}" in host.get_fact(ClustersFact):
        record(Change(config_folder(version), ("removed",)))
        yield script(
            _DISSOLVE,
            folder=config_folder(version),
            data=f"{DATA}/{version}/{CLUSTER}",
            moved=" ".join(MOVED),
            going=" ".join((*MADE, *SETTINGS)),
        )


_DISSOLVE = program("deploys/database/scripts/dissolve.sh")


@dataclass(frozen=True, slots=True)
class ServerState:
    """How the server runs. Times are seconds since 1970, `newest` those of the files asked about.

    `pending` is true when a setting waits for a restart.
    """

    active: bool = False
    enabled: bool = False
    answers: bool = False
    pending: bool = False
    started: float = 0
    loaded: float = 0
    newest_at_start: float = 0
    newest: float = 0


class ServerFact(Fact):
    """State of our cluster's server."""

    def command(self, version: str, at_start: tuple[str, ...], reads: tuple[str, ...]) -> str:
        """Return a script that prints `key=value` lines."""
        unit = assignments(unit=f"postgresql@{version}-{CLUSTER}.service")
        first = assignments(files=" ".join(at_start), key="newest_at_start") + _NEWEST
        return PSQL + unit + _SERVER + first + assignments(files=" ".join(reads), key="newest") + _NEWEST

    @staticmethod
    def default() -> ServerState:
        """Return a server that is not there."""
        return ServerState()

    def process(self, output: list[str]) -> ServerState:
        """Turn the script's lines into a `ServerState`."""
        values = keyed(output)
        return ServerState(
            active=values.get("active") == "active",
            enabled=values.get("enabled") == "enabled",
            answers="loaded" in values,
            pending=values.get("pending") == "1",
            **{
                name: float(values.get(name) or 0)
                for name in ("started", "loaded", "newest_at_start", "newest")
            },
        )


_SERVER = r"""
echo "active=$(systemctl is-active "$unit" 2>/dev/null)"
echo "enabled=$(systemctl is-enabled postgresql.service 2>/dev/null)"
sql postgres 2>/dev/null -c "SELECT 'started=' || extract(epoch FROM pg_postmaster_start_time());
    SELECT 'loaded=' || extract(epoch FROM pg_conf_load_time());
    SELECT 'pending=' || (count(*) > 0)::int FROM pg_settings WHERE pending_restart"
"""
_NEWEST = r"""
echo "$key=$(stat -L -c %.9Y $files 2>/dev/null | sort -g | tail -n 1)"
"""


def served(
    version: str, *, at_start: tuple[str, ...], reads: tuple[str, ...], **arguments: Any
) -> OperationMeta:
    """Have the server run with the settings of its files, now and after a boot.

    It is restarted when one of the files `at_start`, which it reads only then, is newer than its start, and
    otherwise reloaded when one of the files it `reads` is newer than what it has loaded.
    """
    arguments.setdefault("name", "Service postgresql")
    return _served(version, at_start, reads, **arguments)


@operation
def _served(version: str, at_start: tuple[str, ...], reads: tuple[str, ...]) -> Iterator[StringCommand]:
    state: ServerState = host.get_fact(ServerFact, version=version, at_start=at_start, reads=reads)
    action = action_for(
        state,
        new_at_start=any(expected(host, path) for path in at_start),
        new=any(expected(host, path) for path in reads),
    )
    if action is None:
        return
    record(Change("postgresql.service", (action,)))
    yield script(
        _SERVE,
        unit=f"postgresql@{version}-{CLUSTER}.service",
        log=f"/var/log/postgresql/postgresql-{version}-{CLUSTER}.log",
        action=action.split()[0],
        files=" ".join((*at_start, *reads)),
    )


def action_for(state: ServerState, *, new_at_start: bool, new: bool) -> str | None:
    """Return what the server needs, in words for the plan; `None` when it runs as declared."""
    if not state.active:
        return "start (it does not run)"
    if not state.answers:
        return "wait (it runs, but does not answer)"
    if new_at_start or state.newest_at_start > state.started or state.pending:
        return "restart (what it reads at its start changes)"
    if new or state.newest > state.loaded:
        return "reload (what it reads changes)"
    return None if state.enabled else "enable (it does not start at boot)"


_SERVE = program("deploys/database/scripts/serve.sh")
