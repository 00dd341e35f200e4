"""The section `database` of an inventory."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from inventory.types import DatabaseUrl, Declared, HostFolder, Size, TimeOfDay


class Backups(Declared):
    """Nightly dumps of the database, each verified by reading it back."""

    keep: Annotated[int, Field(ge=1, le=365)] = Field(7, description="Number of dumps to keep.")
    time: TimeOfDay = Field("03:30", description="Time of day of the dump, in the host's time zone.")
    path: HostFolder = Field(
        "/var/backups/clawd",
        description="Folder of the dumps on the host with the role database, used for nothing else.",
    )


class Database(Declared):
    """The PostgreSQL database that several runtime hosts share: on a host of this file, or elsewhere."""

    password: SecretStr = Field(description="Password of the login `clawd`, or of the login in `url`.")
    url: DatabaseUrl | None = Field(
        None,
        description="URL of a database elsewhere, `postgresql://LOGIN@NAME:5432/DATABASE`; then no host has "
        "the role database.",
    )
    max_connections: Annotated[int, Field(ge=20, le=2000)] = Field(
        50, description="Maximum number of open connections of all bots together."
    )
    memory: Size = Field(
        "512M", description="Memory of PostgreSQL: half for the page cache, half for connections."
    )
    backups: Backups = Field(Backups(), description="Nightly dumps of the database.")
