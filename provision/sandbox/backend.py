"""On what the hosts run: systemd-nspawn, or a Docker engine where that is what the machine has."""

from __future__ import annotations

from typing import Protocol

from inventory.errors import SandboxError
from provision.sandbox import docker, nspawn
from provision.sandbox.commands import Progress, ensure_tools, missing_tools
from provision.sandbox.host import HostState, Release
from provision.sandbox.layout import Layout
from provision.sandbox.machine import Machine


class Backend(Protocol):
    """What every kind of sandbox can do; see `Nspawn` for the meaning of each."""

    @property
    def name(self) -> str: ...  # noqa: D102
    def prepare(self) -> Machine: ...  # noqa: D102
    def create(  # noqa: D102
        self, name: str, release: Release, machine: Machine, login_key: str, progress: Progress
    ) -> None: ...
    def start(self, name: str) -> None: ...  # noqa: D102
    def state(self, name: str) -> tuple[HostState, int | None]: ...  # noqa: D102
    def stop(self, name: str) -> None: ...  # noqa: D102
    def remove(self, name: str) -> None: ...  # noqa: D102
    def cleanup(self) -> None: ...  # noqa: D102
    def last_words(self, name: str) -> str: ...  # noqa: D102


def choose(layout: Layout, progress: Progress) -> Backend:
    """The backend for this machine, its programs installed.

    nspawn where it is there; else a Docker engine that answers; else nspawn, installed.
    """
    if "systemd-nspawn" in missing_tools() and docker.engine_answers():
        ensure_tools(progress, docker.TOOLS)
        return docker.Docker(layout)
    ensure_tools(progress)
    return nspawn.Nspawn(layout)


def present(layout: Layout) -> tuple[Backend, ...]:
    """Every backend that can have left something on this machine."""
    found: list[Backend] = []
    if not {"ip", "nft"} & set(missing_tools()):
        found.append(nspawn.Nspawn(layout))
    if docker.engine_answers():
        found.append(docker.Docker(layout))
    return tuple(found)


def named(name: str, layout: Layout) -> Backend:
    """The backend a host was made on. Raises SandboxError for one we do not know."""
    if name == nspawn.NAME:
        return nspawn.Nspawn(layout)
    if name == docker.NAME:
        return docker.Docker(layout)
    raise SandboxError(
        f"a sandbox host was made by {name!r}, which is unknown", advice="Remove its folder by hand."
    )
