"""Differences between the releases of Debian and Ubuntu; no other module knows them."""

from __future__ import annotations

from deploys.ops.facts import Fact
from inventory.errors import HostError

VERSIONS = {
    ("debian", "12"): "15",
    ("debian", "13"): "17",
    ("ubuntu", "22.04"): "14",
    ("ubuntu", "24.04"): "16",
}
"""The PostgreSQL of each release: https://packages.debian.org/postgresql, https://packages.ubuntu.com/postgresql.

The oldest, 14, is the first with the role pg_database_owner and the newest settings used here.
"""


class ReleaseFact(Fact):
    """The operating system's release, as `(ID, VERSION_ID)` of os-release(5)."""

    def command(self) -> str:
        """Return a script that prints both."""
        return '. /etc/os-release && printf "%s\\n%s\\n" "$ID" "${VERSION_ID-}"'

    def process(self, output: list[str]) -> tuple[str, str]:
        """Return the two lines."""
        name, version = (*output, "", "")[:2]
        return name, version


def version_of(host: str, release: tuple[str, str]) -> str:
    """Return PostgreSQL's major version on a release. Raise `HostError` for one that is not supported."""
    version = VERSIONS.get(release)
    if version is None:
        known = ", ".join(f"{name.capitalize()} {number}" for name, number in VERSIONS)
        raise HostError(
            f"{host}: database: there is no PostgreSQL known for {' '.join(release)}",
            advice=f"use one of {known}",
        )
    return version
