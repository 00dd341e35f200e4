"""The setting `disk` of a host."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from inventory.types import Declared, Device, HostFolder

Kept = Literal["models", "database", "logs"]
"""Kinds of data that a data disk can hold."""
DEFAULT_KEPT: tuple[Kept, ...] = ("models", "database", "logs")


class Disk(Declared):
    """A data disk. A blank disk is formatted; a disk with any data is never formatted."""

    device: Device = Field(
        "auto",
        description="Path of the whole disk, preferably below /dev/disk/by-id; `auto` uses the only blank "
        "disk.",
    )
    filesystem: Literal["ext4", "xfs"] = Field(
        "ext4",
        description="File system for a blank disk; a disk that an earlier run formatted keeps its own.",
    )
    mount: HostFolder = Field("/srv/clawd", description="Mount point of the disk.")
    keeps: tuple[Kept, ...] = Field(
        DEFAULT_KEPT,
        description="Data that is stored on the disk if the host has it: models, database, logs.",
    )
