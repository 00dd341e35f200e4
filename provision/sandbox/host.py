"""What is known of one throwaway host."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from inventory.errors import SandboxError
from provision.sandbox.layout import Layout, number_of

Release = Literal["bookworm", "trixie"]
RELEASES: tuple[Release, ...] = ("bookworm", "trixie")


class HostState(StrEnum):
    """Whether a host is up.

    `BROKEN` is a host of which only a part is alive, as a killed run leaves it; `up` repairs it.
    """

    RUNNING = "running"
    STOPPED = "stopped"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class SandboxHost:
    """One host and its state now. `pid` is the process that keeps it running, if any."""

    name: str
    address: str
    release: str
    backend: str
    state: HostState
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class HostRecord:
    """What a host was made as; kept in its folder."""

    name: str
    address: str
    release: str
    backend: str
    image: str
    host_key: str


def write_record(folder: Path, record: HostRecord) -> None:
    """Keep `record` in the host's folder."""
    (folder / "host.json").write_text(json.dumps(asdict(record), indent=1) + "\n")


def read_record(folder: Path) -> HostRecord | None:
    """The record of a host's folder; None where the folder was never finished."""
    try:
        return HostRecord(**json.loads((folder / "host.json").read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def recorded(layout: Layout) -> tuple[HostRecord, ...]:
    """All finished hosts of the sandbox, in the order of their numbers."""
    folders = layout.hosts.glob("bot*") if layout.hosts.is_dir() else ()
    records = (read_record(folder) for folder in folders)
    return tuple(sorted((r for r in records if r is not None), key=lambda record: number_of(record.name)))


def releases_for(hosts: int, releases: tuple[str, ...]) -> tuple[Release, ...]:
    """One release a host: as many as given, the last one for the rest.

    Raises SandboxError for a release that does not exist and for more releases than hosts.
    """
    known: dict[str, Release] = {release: release for release in RELEASES}
    unknown = [release for release in releases if release not in known]
    if unknown or not releases:
        raise SandboxError(
            f"there is no sandbox host of release {', '.join(unknown) or '(none)'}",
            advice=f"Choose from {', '.join(RELEASES)}.",
        )
    if len(releases) > hosts:
        raise SandboxError(
            f"{len(releases)} releases were named for {hosts} host(s)",
            advice="Name one release for all hosts, or one for each.",
        )
    chosen = [known[release] for release in releases]
    return tuple(chosen + [chosen[-1]] * (hosts - len(chosen)))
