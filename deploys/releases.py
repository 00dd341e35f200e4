"""The releases of Debian and Ubuntu that hosts may run, and in what they differ: the only place that says so.

Those of Debian were run. Ubuntu's archive cannot be reached from where this is developed: its rows are by its
own lists of packages (https://packages.ubuntu.com), and were not run.
"""

from __future__ import annotations

from dataclasses import dataclass

OLDEST_PYTHON = (3, 11)
"""The runtime's; an older one serves where the runtime is in containers, which bring their own."""


@dataclass(frozen=True, slots=True)
class Release:
    """One release: what /etc/os-release calls it, and versions of what differs between releases.

    `exporter_toolkit` says whether its exporter of nginx (1.0 and newer) reads a web configuration.
    `security` are the origins of its security updates, as unattended-upgrades writes them. `was_run` tells
    whether this program was run on it.
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
    Release("debian", "12", "bookworm", (3, 11), 252, "1.22", 15, False, _DEBIAN, True),
    Release("debian", "13", "trixie", (3, 13), 257, "1.26", 17, True, _DEBIAN, True),
    Release("ubuntu", "22.04", "jammy", (3, 10), 249, "1.18", 14, False, _UBUNTU, False),
    Release("ubuntu", "24.04", "noble", (3, 12), 255, "1.24", 16, True, _UBUNTU, False),
)


def release_of(id: str, version: str) -> Release | None:
    """The release with this ID and VERSION_ID of /etc/os-release; `None` when it is not supported."""
    return next((item for item in RELEASES if (item.id, item.version) == (id, version)), None)
