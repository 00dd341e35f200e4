"""PostgreSQL, as declared."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from inventory.declared import DatabaseUrl, Declared, HostFolder, Size, TimeOfDay


class Backups(Declared):
    """Nightly dumps of the database, each read back before it counts."""

    keep: Annotated[int, Field(ge=1, le=365)] = Field(7, description="How many of the newest are kept.")
    time: TimeOfDay = Field("03:30", description="When they are made, in the host's time zone.")
    path: HostFolder = Field(
        "/var/backups/clawd", description="Folder on the host with the role database, of their own."
    )


class Database(Declared):
    """PostgreSQL, which several runtime hosts share: on the host with the role database, or elsewhere."""

    password: SecretStr = Field(description="Of the login `clawd`, or of the one in `url`.")
    url: DatabaseUrl | None = Field(
        None,
        description="A database elsewhere, `postgresql://LOGIN@NAME:5432/DATABASE`; no host has the role.",
    )
    max_connections: Annotated[int, Field(ge=20, le=2000)] = Field(
        50, description="Open connections of all bots together."
    )
    memory: Size = Field(
        "512M", description="What PostgreSQL plans with: half to keep pages in, half for the connections."
    )
    backups: Backups = Field(Backups(), description="Nightly dumps.")
