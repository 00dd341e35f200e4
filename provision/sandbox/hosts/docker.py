"""Hosts as Docker containers that run systemd and sshd, for a Linux machine with Docker.

The containers have the same root filesystem and addresses as with nspawn. They get the capabilities that
systemd needs to manage services, but not `--privileged`. Containers and network have the sandbox's folder as
a label; only objects with this label are used and removed. Tested with Docker 20.10 on a machine with control
groups of version 1 only. Source: the docker-create, docker-import and docker-network-create references.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from inventory.errors import SandboxError
from provision.sandbox import network
from provision.sandbox.commands import ReportSandboxProgress, run
from provision.sandbox.hosts import cgroups
from provision.sandbox.hosts.host import HostRecord, HostState, write_record
from provision.sandbox.hosts.host_files import NewHost, files_of, unit_links, write_into
from provision.sandbox.hosts.machine_settings import MachineSettings, read_machine
from provision.sandbox.hosts.rootfs import ensure_image, image_of, remove_tree
from provision.sandbox.layout import Layout

NAME = "docker"
LABEL = "clawd-provision.sandbox"
TOOLS = ("mmdebstrap", "zstd", "tar", "ssh", "ssh-keygen", "ip")
"""Programs that this backend runs in addition to `docker`; the root filesystem is built, not downloaded."""

_BY_DOCKER = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/systemd/network/10-host0.network")


def engine_answers() -> bool:
    """Return whether a Docker engine answers; the client alone is not enough."""
    if shutil.which("docker") is None:
        return False
    try:
        return (
            run(["docker", "version", "--format", "{{.Server.Version}}"], timeout=10, check=False).returncode
            == 0
        )
    except SandboxError:
        return False


def network_command(layout: Layout) -> list[str]:
    """Return the command that creates the network of the containers' fixed addresses."""
    return [
        *("docker", "network", "create", "--driver", "bridge"),
        *("--label", f"{LABEL}={layout.folder}"),
        *("--subnet", str(layout.subnet), "--gateway", str(layout.machine_address)),
        *("--opt", f"com.docker.network.bridge.name={layout.bridge}"),
        *("--opt", f"com.docker.network.driver.mtu={network.outgoing_mtu()}"),
        layout.bridge,
    ]


def create_command(layout: Layout, name: str, image: str) -> list[str]:
    """Return the command that creates the container of host `name` without starting it."""
    return [
        *("docker", "create", "--name", layout.machine(name), "--hostname", name),
        *("--label", f"{LABEL}={layout.folder}"),
        *("--network", layout.bridge, "--ip", str(layout.address(name))),
        *("--cgroupns", "private", "--memory", str(cgroups.MEMORY_MAX)),
        *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYSLOG"),
        *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
        *("--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp"),  # noqa: S108 - the container's own
        *("--env", "container=docker", "--stop-signal", "SIGRTMIN+3", "--restart", "unless-stopped"),
        f"clawd-sandbox:{image}",
        *("/bin/sh", "-c", cgroups.WRITABLE_INIT),
    ]


@dataclass(frozen=True, slots=True)
class DockerBackend:
    """The backend of the hosts of `layout`."""

    layout: Layout
    name: str = NAME

    def prepare(self) -> MachineSettings:
        """Create the network, and return the settings that hosts take over from this machine.

        Raises `SandboxError` when a network of that name does not belong to this sandbox.
        """
        if not self._ours("network", self.layout.bridge):
            run(network_command(self.layout))
        return read_machine(self.layout.machine_address)

    def create(self, new: NewHost, progress: ReportSandboxProgress) -> None:
        """Create the container of a host and copy its files into it."""
        name, image = new.name, image_of(new.release, new.machine)
        tarball = ensure_image(new.release, self.layout.cache, new.machine, progress)
        progress(f"{name}: loading Debian {new.release} into Docker", None)
        if run(["docker", "image", "inspect", f"clawd-sandbox:{image}"], check=False).returncode != 0:
            _import(tarball, f"clawd-sandbox:{image}", self.layout)
        folder = self.layout.host(name)
        remove_tree(folder)
        folder.mkdir(parents=True)
        files, host_key = files_of(new, self.layout, folder)
        run(create_command(self.layout, name, image))
        with tempfile.TemporaryDirectory(prefix="clawd-sandbox-") as stage:
            write_into(
                Path(stage), tuple(file for file in files if file.path not in _BY_DOCKER), unit_links()
            )
            run(["docker", "cp", "--archive", f"{stage}/.", f"{self.layout.machine(name)}:/"])
        address = str(self.layout.address(name))
        write_record(folder, HostRecord(name, address, new.release, NAME, image, host_key))

    def start(self, name: str) -> None:
        """Boot host `name` in the background."""
        run(["docker", "start", self.layout.machine(name)])

    def state(self, name: str) -> tuple[HostState, int | None]:
        """Return the state of host `name` and its first process."""
        if not self._ours("container", self.layout.machine(name)):
            return HostState.BROKEN, None
        return state_of(run(["docker", "container", "inspect", self.layout.machine(name)]).stdout)

    def stop(self, name: str) -> None:
        """Stop host `name`."""
        if self._ours("container", self.layout.machine(name)):
            run(["docker", "kill", self.layout.machine(name)], check=False)

    def remove(self, name: str) -> None:
        """Remove host `name` and its folder. Raises `SandboxError` when the container is another's."""
        if self._ours("container", self.layout.machine(name)):
            run(["docker", "rm", "--force", self.layout.machine(name)])
        remove_tree(self.layout.host(name))

    def cleanup(self) -> None:
        """Remove every container, network and image of this sandbox, even if its folder was removed."""
        ours = ["--filter", f"label={LABEL}={self.layout.folder}"]
        for container in run(["docker", "ps", "--all", "--quiet", *ours]).stdout.split():
            run(["docker", "rm", "--force", container])
        for found in run(["docker", "network", "ls", "--quiet", *ours]).stdout.split():
            run(["docker", "network", "rm", found])
        for image in run(["docker", "images", "--quiet", *ours]).stdout.split():
            # Another sandbox may use the image.
            run(["docker", "image", "rm", image], check=False)

    def _ours(self, kind: str, name: str) -> bool:
        """Return whether there is a `kind` of that name. Raises `SandboxError` when it is another's."""
        shown = run(["docker", kind, "inspect", name], check=False)
        if shown.returncode != 0:
            return False
        owner = owner_of(shown.stdout)
        if owner != str(self.layout.folder):
            whose = f"of the sandbox in {owner}" if owner else "that belongs to no sandbox"
            raise SandboxError(
                f"Docker already has a {kind} {name} {whose}",
                advice="remove that sandbox first (`sandbox down` there), or rename the object",
            )
        return True

    def last_words(self, name: str) -> str:
        """Return the end of the host's console output for an error message."""
        return run(["docker", "logs", "--tail", "6", self.layout.machine(name)], check=False).stdout.strip()


def state_of(inspected: str) -> tuple[HostState, int | None]:
    """Return state and first process from the output of `docker container inspect`."""
    state = json.loads(inspected)[0]["State"]
    return (HostState.RUNNING, int(state["Pid"])) if state["Running"] else (HostState.STOPPED, None)


def owner_of(inspected: str) -> str:
    """Return the sandbox's folder from the output of `docker container|network inspect`; empty for others."""
    found = json.loads(inspected)[0]
    labels = found.get("Labels") or found.get("Config", {}).get("Labels") or {}
    return str(labels.get(LABEL, ""))


def _import(tarball: Path, image: str, layout: Layout) -> None:
    with subprocess.Popen(["zstd", "-dc", str(tarball)], stdout=subprocess.PIPE) as unpacked:
        done = subprocess.run(
            ["docker", "import", "--change", f"LABEL {LABEL}={json.dumps(str(layout.folder))}", "-", image],
            stdin=unpacked.stdout,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0 or unpacked.returncode != 0:
        raise SandboxError(
            f"Docker cannot import the root filesystem {tarball}: {done.stderr.strip()}",
            advice="free disk space of Docker (`docker system df`), then run the command again",
        )
