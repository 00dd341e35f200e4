"""Settings of the data disk of a host."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from deploys.component import ComponentSettings
from deploys.topology.engines import MODELS_FOLDER, model_of
from inventory.model import Inventory
from inventory.sections.hosts import Host
from inventory.types import Device, HostFolder


class DiskFolder(ComponentSettings):
    """A folder of the host whose content is on the data disk."""

    folder: str = Field(description="Where programs look for it.")
    name: str = Field(description="Folder on the disk.")
    users: tuple[str, ...] = Field(
        (), description="Units that read it: stopped while it moves, and not started without the disk."
    )


class DiskSettings(ComponentSettings):
    """The data disk of one host."""

    device: Device = Field("auto", description="Path of the whole disk; `auto` is the only blank one.")
    filesystem: Literal["ext4", "xfs"] = "ext4"
    mount: HostFolder = "/srv/clawd"
    places: tuple[DiskFolder, ...] = ()


MODELS = DiskFolder(folder=MODELS_FOLDER, name="models", users=("clawd-engine.service",))
STATES = DiskFolder(folder="/var/lib/clawd-engine", name="engine", users=("clawd-engine.service",))
BOT = DiskFolder(folder="/var/lib/clawd-bot", name="bot", users=("clawd-bot.service",))
POSTGRESQL = DiskFolder(folder="/var/lib/postgresql", name="postgresql", users=("postgresql.service",))
ELASTICSEARCH = DiskFolder(
    folder="/var/lib/elasticsearch", name="elasticsearch", users=("elasticsearch.service",)
)


def settings_for(inventory: Inventory, host: str) -> DiskSettings | None:
    """Return the data disk of `host` with the folders that its roles use; `None` where none is declared."""
    declared = inventory.hosts[host]
    if declared.disk is None:
        return None
    kept = {
        "models": (MODELS, STATES) if model_of(inventory, host) else (),
        "database": _databases(declared),
        "logs": (ELASTICSEARCH,) if "logs" in declared.roles else (),
    }
    return DiskSettings(
        device=declared.disk.device,
        filesystem=declared.disk.filesystem,
        mount=declared.disk.mount,
        places=tuple(place for item in declared.disk.keeps for place in kept[item]),
    )


def lies_on_data_disk(inventory: Inventory, host: str, path: str) -> bool:
    """Return whether `path` of `host` uses space of the data disk and not of the system's."""
    settings = settings_for(inventory, host)
    if settings is None:
        return False
    folders = (settings.mount, *(place.folder for place in settings.places))
    return any(PurePosixPath(path).is_relative_to(folder) for folder in folders)


def _databases(declared: Host) -> tuple[DiskFolder, ...]:
    """Return the folders of databases: the bot's own file or, with several runtime hosts, PostgreSQL."""
    return (
        *((POSTGRESQL,) if "database" in declared.roles else ()),
        *((BOT,) if "runtime" in declared.roles else ()),
    )
