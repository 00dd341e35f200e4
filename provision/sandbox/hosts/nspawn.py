"""Hosts with systemd-nspawn: a complete Debian with its own init and network, without a virtual machine."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inventory.errors import SandboxError
from provision.sandbox import claims, network, process
from provision.sandbox.commands import ReportSandboxProgress, run
from provision.sandbox.hosts import cgroups, supervisor
from provision.sandbox.hosts.host import HostRecord, HostState, write_record
from provision.sandbox.hosts.host_files import NewHost, files_of, unit_links, write_into
from provision.sandbox.hosts.machine_settings import MachineSettings, read_machine
from provision.sandbox.hosts.rootfs import ensure_image, image_of, remove_tree, unpack_command
from provision.sandbox.layout import Layout
from provision.sandbox.process import ProcessIdentity

NAME = "nspawn"

CAPABILITIES = ("CAP_NET_ADMIN", "CAP_SYSLOG", "CAP_BPF", "CAP_PERFMON")
"""Capabilities that a Docker engine on a host needs in addition to nspawn's default. None of them lets a host
change the devices, the clock or the kernel settings of the machine."""

_PATIENCE = 2.0
"""Seconds within which nspawn and the supervisor must end after their host."""


def boot_command(layout: Layout, name: str, root: Path, *, own_groups: bool) -> list[str]:
    """Return the nspawn command that boots `root` and runs until the host is off.

    `own_groups` is true when this program created the host's control groups, not this machine's systemd.
    """
    return [
        "systemd-nspawn",
        "--quiet",
        f"--directory={root}",
        f"--machine={layout.machine(name)}",
        "--register=no",
        *(["--keep-unit"] if own_groups else [f"--property=MemoryMax={cgroups.MEMORY_MAX}"]),
        f"--network-bridge={layout.bridge}",
        f"--capability={','.join(CAPABILITIES)}",
        "--system-call-filter=@keyring bpf",
        "--resolv-conf=off",
        "--timezone=off",
        "--console=pipe",
        *(["--kill-signal=SIGRTMIN+3", "/bin/sh", "-c", cgroups.WRITABLE_INIT] if own_groups else ["--boot"]),
    ]


def serves_below(command: list[str], hosts: str) -> bool:
    """Return whether these are the arguments of a supervisor or nspawn of a host in the folder `hosts`."""
    if command[0].endswith("systemd-nspawn"):
        return any(argument.startswith(f"--directory={hosts}/") for argument in command)
    return len(command) == 3 and command[1] == supervisor.__file__ and command[2].startswith(f"{hosts}/")


@dataclass(frozen=True, slots=True)
class NspawnBackend:
    """The backend of the hosts of `layout`."""

    layout: Layout
    name: str = NAME

    def prepare(self) -> MachineSettings:
        """Create the network, and return the settings that hosts take over from this machine."""
        network.ensure_network(self.layout)
        return read_machine(self.layout.machine_address)

    def create(self, new: NewHost, progress: ReportSandboxProgress) -> None:
        """Create the folder of a host atomically."""
        tarball = ensure_image(new.release, self.layout.cache, new.machine, progress)
        progress(f"{new.name}: unpacking Debian {new.release}", None)
        half = self.layout.hosts / f".{new.name}.new"
        remove_tree(half)
        root = half / "root"
        root.mkdir(parents=True)
        run(unpack_command(tarball, root), timeout=300)
        files, host_key = files_of(new, self.layout, half)
        write_into(root, files, unit_links())
        address, image = str(self.layout.address(new.name)), image_of(new.release, new.machine)
        write_record(half, HostRecord(new.name, address, new.release, NAME, image, host_key))
        half.rename(self.layout.host(new.name))

    def start(self, name: str) -> None:
        """Boot host `name` in the background. Raises `SandboxError` when it cannot be started."""
        folder = self.layout.host(name)
        groups = cgroups.make(self.layout.machine(name))
        boot = {
            "command": boot_command(self.layout, name, folder / "root", own_groups=bool(groups)),
            "interface": self.layout.interface(name),
            "groups": [str(group) for group in groups],
        }
        (folder / "boot.json").write_text(json.dumps(boot, indent=1))
        run([sys.executable, supervisor.__file__, str(folder)], timeout=20)

    def state(self, name: str) -> tuple[HostState, int | None]:
        """Return the state of host `name` and the process that keeps it running."""
        supervisor = self._supervisor(name)
        spawners = self._spawners(name)
        if supervisor is not None and spawners:
            return HostState.RUNNING, supervisor.pid
        inside = process.inside(self.layout.host(name) / "root")
        return (HostState.BROKEN if supervisor or spawners or inside else HostState.STOPPED), None

    def stop(self, name: str) -> None:
        """End all processes of host `name`, and remove its groups.

        Processes inside the host end first, so that nspawn and the supervisor clean up and end normally.
        """
        supervisor = self._supervisor(name)
        process.end(process.inside(self.layout.host(name) / "root"))
        process.wait_for_end([*self._spawners(name), *([supervisor] if supervisor else [])], _PATIENCE)
        process.end([supervisor] if supervisor else [])
        process.end(self._spawners(name))
        process.end(process.inside(self.layout.host(name) / "root"))
        boot = self._read(name, "boot.json")
        cgroups.remove(tuple(Path(group) for group in boot.get("groups", [])))
        (self.layout.host(name) / "supervisor.json").unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Stop host `name` and remove its folder."""
        self.stop(name)
        remove_tree(self.layout.host(name))

    def cleanup(self) -> None:
        """Remove this sandbox's network, and processes whose folder was removed by hand."""
        hosts = str(self.layout.hosts)
        strays = process.with_command(lambda command: serves_below(command, hosts))
        process.end([*strays, *(child for stray in strays for child in process.children(stray))])
        if claims.is_ours(self.layout):
            cgroups.remove(cgroups.left(self.layout.machine("")))
            network.remove_network(self.layout)

    def last_words(self, name: str) -> str:
        """Return the end of the host's console output for an error message."""
        log = self.layout.host(name) / "console.log"
        return "\n  ".join(log.read_text(errors="replace").splitlines()[-6:]) if log.exists() else ""

    def _supervisor(self, name: str) -> ProcessIdentity | None:
        """Return the running supervisor of this host, not another process with a reused id."""
        record = self._read(name, "supervisor.json")
        if not record:
            return None
        supervisor = ProcessIdentity(record["pid"], record["started"])
        ours = str(self.layout.host(name)) in process.command_of(supervisor.pid)
        return supervisor if ours and process.alive(supervisor) else None

    def _spawners(self, name: str) -> tuple[ProcessIdentity, ...]:
        """Return the nspawn processes of this host, identified by its folder in their arguments."""
        directory = f"--directory={self.layout.host(name) / 'root'}"
        return process.with_command(
            lambda command: command[0].endswith("systemd-nspawn") and directory in command
        )

    def _read(self, name: str, file: str) -> dict[str, Any]:
        path = self.layout.host(name) / file
        try:
            content = json.loads(path.read_text())
        except FileNotFoundError:
            return {}
        except ValueError as damaged:
            raise SandboxError(
                f"{path} is damaged: {damaged}",
                advice="remove the sandbox with `sandbox down`, then create it again",
            ) from damaged
        return dict(content)
