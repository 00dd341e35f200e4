"""The backend that runs the hosts: systemd-nspawn, or a Docker engine if the machine has only that."""

from __future__ import annotations

from typing import Protocol

from inventory.errors import SandboxError
from provision.sandbox.commands import Progress, ensure_tools, missing_tools
from provision.sandbox.hosts import docker, nspawn
from provision.sandbox.hosts.host import HostState, Release
from provision.sandbox.hosts.machine_settings import Machine
from provision.sandbox.layout import Layout


class Backend(Protocol):
    """The operations of every kind of sandbox; see `Nspawn` for their meaning."""

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
    """Return the backend for this machine, with its programs installed.

    It is nspawn if installed, else Docker if an engine answers, else nspawn, which is then installed.
    """
    if "systemd-nspawn" in missing_tools() and docker.engine_answers():
        ensure_tools(progress, docker.TOOLS)
        return docker.Docker(layout)
    ensure_tools(progress)
    return nspawn.Nspawn(layout)


def present(layout: Layout) -> tuple[Backend, ...]:
    """Return every backend that may have left something on this machine."""
    found: list[Backend] = []
    if not {"ip", "nft"} & set(missing_tools()):
        found.append(nspawn.Nspawn(layout))
    if docker.engine_answers():
        found.append(docker.Docker(layout))
    return tuple(found)


def named(name: str, layout: Layout) -> Backend:
    """Return the backend with which a host was created. Raises `SandboxError` for an unknown one."""
    if name == nspawn.NAME:
        return nspawn.Nspawn(layout)
    if name == docker.NAME:
        return docker.Docker(layout)
    raise SandboxError(f"a sandbox host has the unknown backend {name!r}", advice="remove its folder by hand")
