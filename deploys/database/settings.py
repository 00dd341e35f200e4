"""Settings of the host with the role database."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from deploys.component import ComponentSettings, Need, Opening
from deploys.resources import HostResources
from deploys.topology.addresses import canonical
from deploys.topology.database import database_clients, has_database
from inventory.model import Inventory
from inventory.rules.database import CONNECTION_MEMORY, PORT
from inventory.types import HostFolder, TimeOfDay
from inventory.values import MIB, size_in_bytes

DATA = "/var/lib/postgresql"
WAL = 512 * MIB
"""Write-ahead log between two checkpoints."""
LEAST_DATA = 1024 * MIB
LEAST_DUMP = 64 * MIB
MOST_HOURS = 26
"""Most hours since the last backup: a night, and some time to make it."""


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
    if declared is None or not has_database(inventory, host):
        return None
    others = database_clients(inventory, host)
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
    others = database_clients(inventory, host)
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
