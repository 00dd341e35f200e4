"""The data disk of a host, as declared."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inventory.declared import Declared, Device, HostFolder

Kept = Literal["models", "database", "logs"]
"""What can lie on a data disk."""
DEFAULT_KEPT: tuple[Kept, ...] = ("models", "database", "logs")


class Disk(Declared):
    """A data disk. A blank one is formatted; one with anything on it never is."""

    device: Device = Field(
        "auto",
        description="Path of the whole disk, best below /dev/disk/by-id; `auto` is the one blank disk.",
    )
    filesystem: Literal["ext4", "xfs"] = Field(
        "ext4", description="How a blank disk is formatted; a disk formatted by an earlier run keeps its own."
    )
    mount: HostFolder = Field("/srv/clawd", description="Folder under which the disk is mounted.")
    keeps: tuple[Kept, ...] = Field(
        DEFAULT_KEPT, description="What lies on it, of what this host has: models, database, logs."
    )
