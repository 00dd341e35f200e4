"""The inventory of a sandbox with several hosts: `inventory/sandbox.yml` with the hosts that run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from provision.local.user import hand_over
from provision.sandbox.claims import PROJECT
from provision.sandbox.hosts.host import HostState, SandboxHost
from provision.sandbox.layout import Layout

TEMPLATE = PROJECT / "inventory" / "sandbox.yml"
_HOSTS = re.compile(r"^hosts:\n(?:[ \t]+.*\n|\n(?=[ \t]))+", re.MULTILINE)
_HEADING = "# inventory/sandbox.yml with the hosts that run; `sandbox up` overwrites this file.\n"


def write(layout: Layout, hosts: Iterable[SandboxHost]) -> Path:
    """Write the inventory of those hosts that run into the sandbox's folder; return its path."""
    text = declaring([host for host in hosts if host.state is HostState.RUNNING], TEMPLATE.read_text())
    half = layout.inventory.with_suffix(".new")
    half.write_text(text)
    hand_over(half)
    half.rename(layout.inventory)
    return layout.inventory


def declaring(hosts: Iterable[SandboxHost], text: str) -> str:
    """Return the inventory `text` with these hosts instead of its own, for the sandbox's folder."""
    one = "  {}:\n    address: {}\n    user: operator\n    ssh_key: id_ed25519\n"
    declared = "hosts:\n" + "".join(one.format(host.name, host.address) for host in hosts)
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    return _HEADING + _HOSTS.sub(declared, body).replace("../.sandbox/", "")
