"""Throwaway Debian hosts on this machine, with their own addresses, systemd, sshd and apt.

    up(hosts=2, releases=("bookworm", "trixie"))   create and start hosts, unless they run
    status()                                       return the hosts and their state
    ssh_command("bot1")                            return the command to log in
    execute("bot1", "systemctl is-system-running") run a command on a host as root
    down()                                         remove everything
    clear()                                        remove leftovers of killed runs as well

The default sandbox is that of `Layout()`: `.sandbox/` in the project's folder, and 10.213.77.0/24. Pass
another `Layout` for a second one.
"""

from __future__ import annotations

from inventory.errors import SandboxError
from provision.sandbox.commands import ReportSandboxProgress, ensure_tools
from provision.sandbox.hosts.host import RELEASES, DebianRelease, HostState, SandboxHost
from provision.sandbox.inventory import write as write_inventory
from provision.sandbox.layout import Layout
from provision.sandbox.lifecycle import clear, down, execute, ssh_command, status, up

__all__ = [
    "RELEASES",
    "DebianRelease",
    "HostState",
    "Layout",
    "ReportSandboxProgress",
    "SandboxError",
    "SandboxHost",
    "clear",
    "down",
    "ensure_tools",
    "execute",
    "ssh_command",
    "status",
    "up",
    "write_inventory",
]
