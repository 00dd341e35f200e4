"""Settings of the host with the role database, and how bots reach it."""

from __future__ import annotations

from typing import Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings, Need, Opening
from deploys.nginx.settings import authority
from deploys.resources import HostResources
from deploys.tls.settings import AUTHORITY, canonical
from inventory.model import Inventory
from inventory.rules.database import CONNECTION_MEMORY, PORT
from inventory.types import HostFolder, TimeOfDay
from inventory.values import size_in_bytes

NAME = "clawd"
"""Name of the login, and of the one database that it owns."""
MIB = 1 << 20
DATA = "/var/lib/postgresql"
WAL = 512 * MIB
"""Write-ahead log between two checkpoints."""
LEAST_DATA = 1024 * MIB
LEAST_DUMP = 64 * MIB
MOST_HOURS = 26
"""Most hours since the last backup: a night, and some time to make it."""
PUBLIC_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class BackupSettings(ComponentSettings):
    """Nightly dumps."""

    keep: int = 7
    time: TimeOfDay = "03:30"
    path: HostFolder = "/var/backups/clawd"


class DatabaseSettings(ComponentSettings):
    """One PostgreSQL."""

    project: str = Field("clawd", description="Project whose authority signs its certificate.")
    names: tuple[str, ...] = Field(min_length=1, description="Names and addresses of the server.")
    clients: tuple[str, ...] = Field(description="Addresses or names of the hosts that may connect.")
    listen: Literal["*", "localhost"] = "*"
    password: SecretStr
    max_connections: int = 50
    memory: int = Field(512 * MIB, description="Memory of the server, in bytes.")
    backups: BackupSettings = BackupSettings()

    @property
    def shared_buffers(self) -> int:
        """Return the bytes of pages that all connections share: half of the memory."""
        return self.memory // 2

    @property
    def work_mem(self) -> int:
        """Return the bytes that a connection may sort in: its part of the other half, less its process."""
        part = self.memory // 2 // self.max_connections - CONNECTION_MEMORY
        return min(max(part, 1 * MIB), 64 * MIB)

    @property
    def maintenance_work_mem(self) -> int:
        """Return the bytes for vacuum and new indexes."""
        return min(max(self.memory // 16, 16 * MIB), 1024 * MIB)


def settings_for(inventory: Inventory, host: str) -> DatabaseSettings | None:
    """Return the settings of `host`; `None` without the role `database`, or with a database elsewhere."""
    declared = inventory.database
    if declared is None or declared.url is not None or "database" not in inventory.hosts[host].roles:
        return None
    others = _other_bots(inventory, host)
    own = ("127.0.0.1",) if "runtime" in inventory.hosts[host].roles else ()
    backups = declared.backups
    return DatabaseSettings(
        project=inventory.project,
        names=(canonical(inventory.internal(host)), *own),
        clients=(*own, *others),
        listen="*" if others else "localhost",
        password=declared.password,
        max_connections=declared.max_connections,
        memory=size_in_bytes(declared.memory),
        backups=BackupSettings(keep=backups.keep, time=backups.time, path=backups.path),
    )


def openings_for(inventory: Inventory, host: str) -> tuple[Opening, ...]:
    """Return PostgreSQL's port, open to the other hosts with a bot only."""
    if settings_for(inventory, host) is None:
        return ()
    others = _other_bots(inventory, host)
    return (Opening(port=PORT, sources=others, purpose="postgresql, from bots"),) if others else ()


def ports_for(inventory: Inventory, host: str) -> tuple[int, ...]:
    """Return PostgreSQL's port, also where only this host reaches it."""
    return (PORT,) if settings_for(inventory, host) else ()


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return memory as declared, and the least disk space for data, log and dumps."""
    settings = settings_for(inventory, host)
    if settings is None:
        return ()
    keep = settings.backups.keep
    return (
        Need(
            "PostgreSQL",
            memory=settings.memory,
            disk=LEAST_DATA + WAL,
            path=DATA,
            how=f"memory: half shared pages, half {settings.max_connections} connections (database.memory); "
            f"disk: {LEAST_DATA // MIB} MiB of data + {WAL // MIB} MiB of write-ahead log",
        ),
        Need(
            "database backups",
            disk=(keep + 1) * LEAST_DUMP,
            path=settings.backups.path,
            how=f"{keep} kept + 1 being made, {LEAST_DUMP // MIB} MiB each",
        ),
    )


def url_for(inventory: Inventory, host: str) -> str | None:
    """Return the URL by which the bot of `host` reaches the shared database, without the password.

    `None` when there is none. The server's certificate is always checked, by the project's authority. For a
    database elsewhere that is left to `url`; where it does not mention TLS, the public authorities of the
    system are used.
    """
    declared = inventory.database
    if declared is None:
        return None
    if declared.url is not None:
        return _external(declared.url)
    server = next(iter(inventory.with_role("database")), None)
    if server is None:
        return None
    address = "127.0.0.1" if server == host else canonical(inventory.internal(server))
    query = f"sslmode=verify-full&sslrootcert={AUTHORITY}"
    return f"postgresql+psycopg://{NAME}@{authority(address, PORT)}/{NAME}?{query}"


def _external(url: str) -> str:
    rest = url.removeprefix("postgresql://")
    if "sslmode=" in urlsplit(url).query:
        return f"postgresql+psycopg://{rest}"
    joint = "&" if "?" in rest else "?"
    trusted = quote(PUBLIC_AUTHORITIES, safe="/")
    return f"postgresql+psycopg://{rest}{joint}sslmode=verify-full&sslrootcert={trusted}"


def _other_bots(inventory: Inventory, host: str) -> tuple[str, ...]:
    return tuple(inventory.internal(name) for name in inventory.with_role("runtime") if name != host)
