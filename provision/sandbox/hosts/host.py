"""State and record of one sandbox host."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from inventory.errors import SandboxError
from provision.sandbox.layout import Layout, number_of

DebianRelease = Literal["bookworm", "trixie"]
RELEASES: tuple[DebianRelease, ...] = ("bookworm", "trixie")


class HostState(StrEnum):
    """The state of a host.

    `BROKEN` is a host of which only some processes run, for example after a killed run; `up` repairs it.
    """

    RUNNING = "running"
    STOPPED = "stopped"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class SandboxHost:
    """One host and its current state. `pid` is the process that keeps it running, if any."""

    name: str
    address: str
    release: str
    backend: str
    state: HostState
    pid: int | None = None


@dataclass(frozen=True, slots=True)
class HostRecord:
    """The settings with which a host was created, stored in its folder."""

    name: str
    address: str
    release: str
    backend: str
    image: str
    host_key: str


def write_record(folder: Path, record: HostRecord) -> None:
    """Store `record` in the host's folder."""
    (folder / "host.json").write_text(json.dumps(asdict(record), indent=1) + "\n")


def read_record(folder: Path) -> HostRecord | None:
    """Return the record in a host's folder; `None` when the folder is incomplete."""
    try:
        return HostRecord(**json.loads((folder / "host.json").read_text()))
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return None


def recorded(layout: Layout) -> tuple[HostRecord, ...]:
    """Return all complete hosts of the sandbox, ordered by number."""
    folders = layout.hosts.glob("bot*") if layout.hosts.is_dir() else ()
    records = (read_record(folder) for folder in folders)
    return tuple(sorted((r for r in records if r is not None), key=lambda record: number_of(record.name)))


def releases_for(hosts: int, releases: tuple[str, ...]) -> tuple[DebianRelease, ...]:
    """Return one release for each host: those given, and the last one for the rest.

    Raises `SandboxError` for an unknown release, and for more releases than hosts.
    """
    known: dict[str, DebianRelease] = {release: release for release in RELEASES}
    unknown = [release for release in releases if release not in known]
    if unknown or not releases:
        raise SandboxError(
            f"unknown release of a sandbox host: {', '.join(unknown) or '(none)'}",
            advice=f"use one of: {', '.join(RELEASES)}",
        )
    if len(releases) > hosts:
        raise SandboxError(
            f"{len(releases)} releases were given for {hosts} host(s)",
            advice="give one release for all hosts, or one for each",
        )
    chosen = [known[release] for release in releases]
    return tuple(chosen + [chosen[-1]] * (hosts - len(chosen)))
