"""The backend that runs the hosts: systemd-nspawn, or a Docker engine if the machine has only that."""

from __future__ import annotations

from typing import Protocol

from inventory.errors import SandboxError
from provision.sandbox.commands import ReportSandboxProgress, ensure_tools, missing_tools
from provision.sandbox.hosts import docker, nspawn
from provision.sandbox.hosts.host import HostState
from provision.sandbox.hosts.host_files import NewHost
from provision.sandbox.hosts.machine_settings import MachineSettings
from provision.sandbox.layout import Layout


class SandboxBackend(Protocol):
    """A program that runs hosts: nspawn or Docker."""

    @property
    def name(self) -> str:
        """Return its name, which is stored with each host."""

    def prepare(self) -> MachineSettings:
        """Create the network, and return the settings that hosts take over from this machine."""

    def create(self, new: NewHost, progress: ReportSandboxProgress) -> None:
        """Create a host without starting it."""

    def start(self, name: str) -> None:
        """Boot host `name` in the background."""

    def state(self, name: str) -> tuple[HostState, int | None]:
        """Return the state of host `name` and the process that keeps it running."""

    def stop(self, name: str) -> None:
        """Stop host `name`."""

    def remove(self, name: str) -> None:
        """Remove host `name` and its folder."""

    def cleanup(self) -> None:
        """Remove everything that was created for hosts of this sandbox, even if its folder was removed."""

    def last_words(self, name: str) -> str:
        """Return the end of the host's console output for an error message."""


def choose(layout: Layout, progress: ReportSandboxProgress) -> SandboxBackend:
    """Return the backend for this machine, with its programs installed.

    It is nspawn if installed, else Docker if an engine answers, else nspawn, which is then installed.
    """
    if "systemd-nspawn" in missing_tools() and docker.engine_answers():
        ensure_tools(progress, docker.TOOLS)
        return docker.DockerBackend(layout)
    ensure_tools(progress)
    return nspawn.NspawnBackend(layout)


def present(layout: Layout) -> tuple[SandboxBackend, ...]:
    """Return every backend that may have left something on this machine."""
    found: list[SandboxBackend] = []
    if not {"ip", "nft"} & set(missing_tools()):
        found.append(nspawn.NspawnBackend(layout))
    if docker.engine_answers():
        found.append(docker.DockerBackend(layout))
    return tuple(found)


def named(name: str, layout: Layout) -> SandboxBackend:
    """Return the backend with which a host was created. Raises `SandboxError` for an unknown one."""
    if name == nspawn.NAME:
        return nspawn.NspawnBackend(layout)
    if name == docker.NAME:
        return docker.DockerBackend(layout)
    raise SandboxError(f"a sandbox host has the unknown backend {name!r}", advice="remove its folder by hand")
