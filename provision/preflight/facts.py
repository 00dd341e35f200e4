"""Facts of a host, read by one shell script in one round trip without changing anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from deploys.ops.programs import program
from deploys.ops.shell import assignments
from inventory.errors import HostError
from provision.connection.session import CommandResult

CONNECT_S = 5
"""Seconds within which a package mirror must accept a connection."""
MOST_MIRRORS = 6


@dataclass(frozen=True, slots=True)
class FileSystem:
    """The file system of a path, in MB: its device, its size, free space, and the size of the path."""

    device: str
    size_mb: int
    free_mb: int
    used_mb: int


@dataclass(frozen=True, slots=True)
class PortListener:
    """A program that listens on a TCP port, and its systemd unit; empty when unknown.

    For a container, `unit` is `docker/NAME`.
    """

    program: str
    unit: str


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The facts of a host. Sizes are in MB, `epoch` in seconds of the host's own clock.

    `components` are those of earlier runs. `mirrors` has for each package mirror (`address:port`, or the
    proxy in front of all) whether it accepts a connection; empty when none was checked. `data_disk_mb` is the
    size of the only unused disk, 0 when there is none or more than one. `gpus` is the number of NVIDIA GPUs
    on the bus, `None` when unknown; their memory is known only with a driver.
    """

    id: str
    version: str
    architecture: str
    uid: int
    cores: int
    memory_mb: int
    gpu_memory_mb: int
    epoch: int
    init: str
    components: frozenset[str]
    file_systems: Mapping[str, FileSystem]
    listeners: Mapping[int, PortListener]
    mirrors: Mapping[str, bool]
    data_disk_mb: int
    gpus: int | None = None
    refused_settings: tuple[str, ...] = ()
    """Kernel settings that the host refused (`deploys.hardening.sysctl`)."""

    @property
    def installed(self) -> bool:
        """Return whether an earlier run has installed components, so that little more space is needed."""
        return bool(self.components)

    @classmethod
    def parse(cls, host: str, result: CommandResult) -> Self:
        """Return the facts from the probe's output. Raises `HostError` when the probe failed."""
        if not result.succeeded and "sudo" in result.stderr:
            raise HostError(
                f"{host}: sudo refused ({result.stderr.strip().splitlines()[-1]})",
                advice="give the login sudo for all commands, without a password or with `sudo_password` "
                f"under `hosts.{host}`, or connect as root",
            )
        lines = (line.partition("=") for line in result.stdout.splitlines())
        pairs = [(key, value) for key, equals, value in lines if equals]
        values: dict[str, str] = dict(pairs)

        def rows(name: str) -> list[list[str]]:
            return [value.split("|") for key, value in pairs if key == name]

        try:
            return cls(
                id=values["id"],
                version=values["version"],
                architecture=values["architecture"],
                uid=int(values["uid"]),
                cores=int(values["cores"]),
                memory_mb=int(values["memory_kb"]) // 1024,
                gpu_memory_mb=sum(int(row[0]) for row in rows("gpu_mb") if row[0].isdigit()),
                epoch=int(values["epoch"]),
                init=values["init"],
                components=frozenset(values["components"].split()),
                file_systems={
                    path: FileSystem(device, int(whole), int(free), int(used or 0))
                    for path, device, whole, free, used in rows("fs")
                },
                listeners={
                    int(port): PortListener(program, unit)
                    for port, program, unit in rows("listens")
                    if port.isdigit()
                },
                mirrors={where: answer == "yes" for where, answer in rows("mirror")},
                data_disk_mb=int(values["data_disk_mb"] or 0),
                gpus=int(values["gpus"]) if values.get("gpus") else None,
                refused_settings=tuple(values.get("refused", "").split()),
            )
        except (KeyError, ValueError) as error:
            problem = result.stderr.strip() or result.stdout.strip() or "it printed nothing"
            raise HostError(
                f"{host}: cannot read its facts: {problem}",
                advice="log in by hand and check that it is a Debian or Ubuntu server with a POSIX shell",
            ) from error


def probe(paths: Iterable[str], *, ask_mirrors: bool = True, more: str = "") -> str:
    """Return the script that prints a host's facts and the space at `paths`, and runs `more`."""
    wanted = " ".join(shlex.quote(path) for path in sorted({"/", *paths}))
    asked = assignments(most=MOST_MIRRORS, seconds=CONNECT_S) + _MIRRORS
    return f"{assignments(paths=wanted)}{_PROBE}{more}\n{asked if ask_mirrors else ''}exit 0\n"


_PROBE = program("provision/preflight/scripts/facts.sh")

_MIRRORS = program("provision/preflight/scripts/mirrors.sh")
