"""Install PostgreSQL of the distribution, for the bots alone: TLS, one login, one database, nightly dumps."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from pyinfra import host
from pyinfra.api import deploy

from deploys.database import access, backups, server
from deploys.database.releases import version_of
from deploys.database.server import CLUSTER, ClustersFact, OwnDataFact, config_folder
from deploys.database.settings import DATA, WAL, DatabaseSettings
from deploys.firewall.deploy import AddressesFact
from deploys.ops import accounts, units
from deploys.ops.debian import packages
from deploys.ops.facts import OsReleaseFact
from deploys.ops.paths import data, files
from deploys.ops.programs import program
from deploys.ops.removal import removal
from deploys.ops.shell import checking
from deploys.settings import purging, settings_of
from deploys.tls.deploy import internal
from deploys.topology.certificates import CERTIFICATE_FOLDERS
from deploys.topology.database import NAME
from inventory.addresses import is_address
from inventory.errors import HostError
from inventory.rules.database import PORT
from inventory.types import Network
from inventory.values import MIB

FOLDERS = {
    "/etc/postgresql": tuple(f"*/{CLUSTER}/{name}" for name in (*server.MOVED, *server.MADE)),
    "/etc/postgresql-common": ("createcluster.conf", "root.crt"),
}
"""Folders of its packages in /etc, with patterns of what they generate."""
TLS = CERTIFICATE_FOLDERS["database"]
CERTIFICATE = f"{TLS}/fullchain.pem"
PRIVATE_KEY = f"{TLS}/privkey.pem"


@deploy("Database")
def apply() -> None:
    """Install PostgreSQL as declared.

    Raise `HostError` on a release without one, and for names without address.
    """
    settings = settings_of("database", DatabaseSettings)
    version = version_of(host.name, host.get_fact(OsReleaseFact))
    _same_version(version, host.get_fact(ClustersFact))
    addresses = client_addresses(settings.clients)
    packages.installed(f"postgresql-{version}", "logrotate", component="database")
    server.cluster(version)
    files.directory("/etc/clawd")
    internal(TLS, settings.project, settings.names, owner="postgres")
    at_start, reads = config_files(version)
    # Debian makes the server's user the owner of the whole folder.
    own = {"owner": "postgres", "group": "postgres"}
    files.template("database/start.conf", at_start, values(settings), **own, check=trial(version))
    files.template("database/settings.conf", reads[0], values(settings), **own, check=trial(version))
    hba = {"name": NAME, "addresses": addresses}
    files.template("database/pg_hba.conf", reads[1], hba, **own, mode="0640", check=trial(version, hba=True))
    server.served(version, at_start=(at_start,), reads=reads)
    access.granted(settings.password, settings.max_connections)
    backups.nightly(settings.backups)


@removal("database")
def remove() -> None:
    """Remove the PostgreSQL that we installed, and its configuration. Data and dumps stay, unless purging."""
    dumps = host.get_fact(backups.FolderFact)
    clusters: tuple[str, ...] = host.get_fact(ClustersFact)
    brought: frozenset[str] = host.get_fact(packages.BroughtFact, component="database") or frozenset()
    units.absent("clawd-database-backup.timer")
    units.absent("clawd-database-backup.service")
    for version, name in (cluster.split("/") for cluster in clusters):
        if name == CLUSTER:
            units.absent(f"postgresql@{version}-{CLUSTER}.service", file=False)
            server.dissolved(version)
    # Purged packages would remove the configuration of clusters of others, and with it their data.
    foreign = any(not cluster.endswith(f"/{CLUSTER}") for cluster in clusters)
    packages.removed("database", keep_configuration=foreign, folders=FOLDERS)
    own = (backups.ENVIRONMENT, backups.BACKUP, backups.METRICS, backups.RESTORE, backups.METRICS_FILE)
    for path in (*own, TLS, f"{TLS}.d"):
        files.absent(path)
    if not foreign:
        for folder, generated in FOLDERS.items():
            files.absent(folder, generated=generated)
        files.absent("/var/log/postgresql")
    own_data: tuple[str, ...] = host.get_fact(OwnDataFact)
    backed_up = {dumps: f"backups of the database {NAME}"} if dumps else {}
    # Of our cluster alone: others may have data next to it.
    data.kept_or_purged(
        "database",
        {**dict.fromkeys(own_data, f"the database {NAME}"), **backed_up},
        unit="postgresql.service",
        user="" if foreign else "postgres",
    )
    if purging() and not foreign:
        files.absent(DATA)
        accounts.absent("postgres")
        if "ssl-cert" in brought:
            # Its package leaves the group, of which postgres was a member.
            accounts.absent("ssl-cert")


def _same_version(version: str, clusters: tuple[str, ...]) -> None:
    """Raise `HostError` where the release was upgraded and the data was not: the bots would find no data."""
    old = [cluster for cluster in clusters if cluster.endswith(f"/{CLUSTER}")]
    if old and f"{version}/{CLUSTER}" not in old:
        before = old[-1].split("/")[0]
        raise HostError(
            f"{host.name}: database: its data belongs to PostgreSQL {before}, and its release has {version}",
            advice=f"upgrade it there with `pg_upgradecluster {before} {CLUSTER}` "
            f"(package postgresql-{version}), drop the former cluster of {before}, and run this again",
        )


def config_files(version: str) -> tuple[str, tuple[str, ...]]:
    """Return the file that the server reads only at its start, and those that it also reads when reloaded."""
    folder = config_folder(version)
    at_start, reloaded = (f"{folder}/{name}" for name in server.SETTINGS)
    return at_start, (reloaded, f"{folder}/pg_hba.conf", CERTIFICATE, PRIVATE_KEY)


def values(settings: DatabaseSettings) -> Mapping[str, Any]:
    """Return the values of the templates of postgresql.conf."""
    return {
        "port": PORT,
        "listen": settings.listen,
        "max_connections": settings.max_connections,
        "shared_buffers_mb": settings.shared_buffers // MIB,
        "work_mem_kb": settings.work_mem // 1024,
        "maintenance_work_mem_mb": settings.maintenance_work_mem // MIB,
        "memory_mb": settings.memory // MIB,
        "wal_mb": WAL // MIB,
        "certificate": CERTIFICATE,
        "private_key": PRIVATE_KEY,
    }


def client_addresses(clients: tuple[str, ...]) -> tuple[str, ...]:
    """Return the clients as networks of one address each. Raise `HostError` for a name that has none."""
    names = tuple(client for client in clients if not is_address(client))
    found = host.get_fact(AddressesFact, names=names) if names else {}
    unknown = [name for name in names if not found.get(name)]
    if unknown:
        raise HostError(
            f"{host.name}: database: {', '.join(unknown)} cannot be resolved there, so it could not connect",
            advice="declare an `internal_address` of that host, or make its name resolvable there",
        )
    return tuple(str(network) for network in clients_as_networks(clients, found))


def clients_as_networks(
    clients: tuple[str, ...], resolved: Mapping[str, tuple[str, ...]]
) -> tuple[Network, ...]:
    """Return a network of one address for each address of a client, without duplicates."""
    every = (address for client in clients for address in resolved.get(client) or (client,))
    return tuple(ip_network(address) for address in dict.fromkeys(every))


def trial(version: str, *, hba: bool = False) -> str:
    """Return a check: a trial server with an empty database must start with the new file in place of the old.

    It listens only in its own folder. PostgreSQL has no command that only checks the files.
    """
    return checking(
        program("deploys/database/scripts/trial.sh"),
        programs=f"/usr/lib/postgresql/{version}/bin",
        config=config_folder(version),
        setting="hba_file" if hba else "include",
    )
