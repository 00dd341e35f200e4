"""The inventory of more hosts than the one in `inventory/sandbox.yml`: the same, with those that run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from provision.sandbox.commands import hand_over
from provision.sandbox.host import HostState, SandboxHost
from provision.sandbox.layout import Layout
from provision.sandbox.notes import PROJECT

TEMPLATE = PROJECT / "inventory" / "sandbox.yml"
_HOSTS = re.compile(r"^hosts:\n(?:[ \t]+.*\n|\n(?=[ \t]))+", re.MULTILINE)
_HEADING = "# What runs of the sandbox now, as inventory/sandbox.yml has it; `sandbox up` writes it anew.\n"


def write(layout: Layout, hosts: Iterable[SandboxHost]) -> Path:
    """Write the inventory of these hosts, as far as they run, into the sandbox's folder; return the file."""
    text = declaring([host for host in hosts if host.state is HostState.RUNNING], TEMPLATE.read_text())
    half = layout.inventory.with_suffix(".new")
    half.write_text(text)
    hand_over(half)
    half.rename(layout.inventory)
    return layout.inventory


def declaring(hosts: Iterable[SandboxHost], text: str) -> str:
    """The inventory `text` with these hosts in the place of its own, for a file in the sandbox's folder."""
    one = "  {}:\n    address: {}\n    user: operator\n    ssh_key: id_ed25519\n"
    declared = "hosts:\n" + "".join(one.format(host.name, host.address) for host in hosts)
    body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    return _HEADING + _HOSTS.sub(declared, body).replace("../.sandbox/", "")
