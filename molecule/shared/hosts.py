"""The throwaway hosts of a scenario, created and removed by molecule's playbooks.

    python molecule/shared/hosts.py up      the platforms of $MOLECULE_FILE, and how to log in to them
    python molecule/shared/hosts.py down    removes everything that `up` made

Each scenario has a sandbox of its own in its folder, on a bridge and a subnet of its own.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from ipaddress import IPv4Network
from pathlib import Path

from ruamel.yaml import YAML

from inventory.errors import ClawdError
from provision import sandbox
from provision.sandbox import Layout, SandboxHost

SUBNETS = {"default": ("clmol1", "10.213.118.0/24"), "cluster": ("clmol2", "10.213.178.0/24")}
FURTHER_SECRETS = ("database-password", "alerts-token", "logs-password")
"""Secrets in addition to those of every sandbox."""


def layout_of(folder: Path) -> Layout:
    """Return the sandbox of the scenario in `folder`."""
    bridge, subnet = SUBNETS[folder.name]
    return Layout(folder / ".sandbox", bridge=bridge, subnet=IPv4Network(subnet), table=f"{bridge}_sandbox")


def up(folder: Path) -> None:
    """Create the platforms in the order of molecule.yml, and write their connection settings."""
    layout = layout_of(folder)
    platforms = YAML(typ="safe").load(Path(os.environ["MOLECULE_FILE"]))["platforms"]
    hosts = sandbox.up(
        len(platforms), [platform["release"] for platform in platforms], layout=layout, lasting=True
    )
    named = {platform["name"]: host for platform, host in zip(platforms, hosts, strict=True)}
    for name in FURTHER_SECRETS:
        path = layout.secrets / name
        if not path.exists():
            path.touch(mode=0o600)
            path.write_text(secrets.token_urlsafe(32))
    (layout.folder / "ssh_config").write_text("".join(ssh_stanza(layout, *item) for item in named.items()))
    Path(os.environ["MOLECULE_INSTANCE_CONFIG"]).write_text(
        json.dumps(
            [
                {
                    "instance": name,
                    "address": host.address,
                    "user": "operator",
                    "port": 22,
                    "identity_file": str(layout.key),
                }
                for name, host in named.items()
            ]
        )
    )


def ssh_stanza(layout: Layout, name: str, host: SandboxHost) -> str:
    """Return the options with which `ssh` logs in to a host and checks its key."""
    return (
        f"Host {name}\n"
        f"  HostName {host.address}\n"
        f"  User operator\n"
        f"  IdentityFile {layout.key}\n"
        f"  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {layout.known_hosts}\n"
        f"  StrictHostKeyChecking yes\n"
    )


def down(folder: Path) -> None:
    """Remove hosts, network, keys and secrets, and the state of these hosts."""
    layout = layout_of(folder)
    (layout.folder / "ssh_config").unlink(missing_ok=True)
    sandbox.down(layout=layout, purge=True)
    shutil.rmtree(folder / ".clawd", ignore_errors=True)


def main(action: str) -> int:
    """Run `action` for the scenario in $MOLECULE_SCENARIO_DIRECTORY."""
    folder = Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"])
    try:
        {"up": up, "down": down}[action](folder)
    except ClawdError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
