"""The backend that runs the hosts: systemd-nspawn, or a Docker engine if the machine has only that."""

from __future__ import annotations

from typing import Protocol

from inventory.errors import SandboxError
from provision.sandbox.commands import ReportSandboxProgress, ensure_tools, missing_tools
from provision.sandbox.hosts import docker, nspawn
from provision.sandbox.hosts.host import DebianRelease, HostState
from provision.sandbox.hosts.machine_settings import MachineSettings
from provision.sandbox.layout import Layout


class SandboxBackend(Protocol):
    """The operations of every kind of sandbox; see `NspawnBackend` for their meaning."""

    @property
    def name(self) -> str: ...  # noqa: D102
    def prepare(self) -> MachineSettings: ...  # noqa: D102
    def create(  # noqa: D102
        self,
        name: str,
        release: DebianRelease,
        machine: MachineSettings,
        login_key: str,
        progress: ReportSandboxProgress,
    ) -> None: ...
    def start(self, name: str) -> None: ...  # noqa: D102
    def state(self, name: str) -> tuple[HostState, int | None]: ...  # noqa: D102
    def stop(self, name: str) -> None: ...  # noqa: D102
    def remove(self, name: str) -> None: ...  # noqa: D102
    def cleanup(self) -> None: ...  # noqa: D102
    def last_words(self, name: str) -> str: ...  # noqa: D102


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
