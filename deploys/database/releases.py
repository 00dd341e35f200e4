"""The PostgreSQL of each release of Debian and Ubuntu.

The oldest, 14, is the first with the role pg_database_owner and the newest settings used here.
"""

from __future__ import annotations

from deploys.os_releases import RELEASES, release_of
from inventory.errors import HostError


def version_of(host: str, release: tuple[str, str]) -> str:
    """Return PostgreSQL's major version on a release. Raise `HostError` for one that is not supported."""
    known = release_of(*release)
    if known is None:
        supported = ", ".join(f"{item.id.capitalize()} {item.version}" for item in RELEASES)
        raise HostError(
            f"{host}: database: there is no PostgreSQL known for {' '.join(release)}",
            advice=f"use one of {supported}",
        )
    return str(known.postgresql)
