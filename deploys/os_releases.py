"""The supported releases of Debian and Ubuntu, and how they differ; defined only here.

Those of Debian were tested. Ubuntu's archive cannot be reached from where this is developed: its rows follow
its lists of packages (https://packages.ubuntu.com), and were not tested.
"""

from __future__ import annotations

from dataclasses import dataclass

OLDEST_PYTHON = (3, 11)
"""The oldest Python that the runtime works with. Hosts with containers may have an older one."""


@dataclass(frozen=True, slots=True)
class OsRelease:
    """One release: its names in /etc/os-release, and the versions of packages that differ between releases.

    `exporter_toolkit`: whether its nginx exporter (1.0 and newer) reads a web configuration. `security`: the
    origins of its security updates, as unattended-upgrades writes them. `was_run`: whether this program was
    tested on it.
    """

    id: str
    version: str
    codename: str
    python: tuple[int, int]
    systemd: int
    nginx: str
    postgresql: int
    exporter_toolkit: bool
    security: tuple[str, ...]
    was_run: bool

    def __str__(self) -> str:
        return f"{self.id} {self.version}"


_DEBIAN = ("origin=Debian,codename=${distro_codename}-security,label=Debian-Security",)
_UBUNTU = (
    "origin=Ubuntu,archive=${distro_codename}-security,label=Ubuntu",
    "origin=UbuntuESM,archive=${distro_codename}-infra-security,label=UbuntuESM",
)
RELEASES = (
    OsRelease("debian", "12", "bookworm", (3, 11), 252, "1.22", 15, False, _DEBIAN, True),
    OsRelease("debian", "13", "trixie", (3, 13), 257, "1.26", 17, True, _DEBIAN, True),
    OsRelease("ubuntu", "22.04", "jammy", (3, 10), 249, "1.18", 14, False, _UBUNTU, False),
    OsRelease("ubuntu", "24.04", "noble", (3, 12), 255, "1.24", 16, True, _UBUNTU, False),
)


def release_of(id: str, version: str) -> OsRelease | None:
    """Return the release with this ID and VERSION_ID of /etc/os-release; `None` when it is not supported."""
    return next((item for item in RELEASES if (item.id, item.version) == (id, version)), None)
