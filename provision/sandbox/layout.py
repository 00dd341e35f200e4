"""The folder, the bridge and the addresses of a sandbox on this machine.

Everything that a sandbox creates is found through its `Layout`, so that two sandboxes (for example the one in
use and one of a test) do not interfere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from inventory.errors import SandboxError
from provision.local.cache import default_folder

MAX_HOSTS = 99
"""With this limit names fit a network interface, and addresses fit the subnet."""

_FIRST_ADDRESS = 10
_DEFAULT_SUBNET = IPv4Network("10.213.77.0/24")


def _default_folder() -> Path:
    chosen = os.environ.get("CLAWD_SANDBOX")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(__file__).resolve().parents[2] / ".sandbox"


def _default_cache() -> Path:
    return default_folder() / "sandbox"


@dataclass(frozen=True, slots=True)
class Layout:
    """Folder, bridge and subnet of one sandbox; by default those of `inventory/sandbox.yml`.

    `bridge` is part of all names that are visible on the whole machine, so it must differ between sandboxes.
    It has at most 6 characters, because a host's interface (`vb-<bridge>-<name>`) may have 15.
    """

    folder: Path = field(default_factory=_default_folder)
    cache: Path = field(default_factory=_default_cache)
    bridge: str = "clawd0"
    subnet: IPv4Network = _DEFAULT_SUBNET
    table: str = "clawd_sandbox"

    def __post_init__(self) -> None:
        if not 1 <= len(self.bridge) <= 6:
            raise ValueError(f"bridge name {self.bridge!r} must have 1 to 6 characters")
        if self.subnet.prefixlen > 24:
            raise ValueError(f"subnet {self.subnet} is too small, it must be a /24 or larger")

    @property
    def machine_address(self) -> IPv4Address:
        """Return the address of this machine on the bridge, which is the hosts' gateway."""
        return self.subnet[1]

    def address(self, name: str) -> IPv4Address:
        """Return the address of host `name`: bot1 has .11, bot2 has .12, and so on."""
        return self.subnet[_FIRST_ADDRESS + number_of(name)]

    def machine(self, name: str) -> str:
        """Return the name of host `name` among all names of the machine."""
        return f"{self.bridge}-{name}"

    def interface(self, name: str) -> str:
        """Return this machine's network interface to host `name`."""
        return f"vb-{self.machine(name)}"

    @property
    def hosts(self) -> Path:
        """Return the folder with one folder for each host."""
        return self.folder / "hosts"

    def host(self, name: str) -> Path:
        """Return the folder of host `name`."""
        return self.hosts / name

    @property
    def key(self) -> Path:
        """Return the path of the private SSH key of `operator` and root; the public key is next to it."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """Return the path of the file with the host keys."""
        return self.folder / "known_hosts"

    @property
    def secrets(self) -> Path:
        """Return the folder with one file for each secret of `inventory/sandbox.yml`."""
        return self.folder / "secrets"

    @property
    def inventory(self) -> Path:
        """Return the path of the inventory of the hosts that run."""
        return self.folder / "inventory.yml"

    @property
    def lock(self) -> Path:
        """Return the path of the lock for changes of the sandbox."""
        return self.folder / "lock"


def host_name(number: int) -> str:
    """Return the name of the `number`th host, counted from 1."""
    return f"bot{number}"


def number_of(name: str) -> int:
    """Return the number of host `name`, counted from 1. Raises `SandboxError` for an invalid name."""
    digits = name.removeprefix("bot")
    if name.startswith("bot") and digits.isascii() and digits.isdigit() and not digits.startswith("0"):
        number = int(digits)
        if 1 <= number <= MAX_HOSTS:
            return number
    raise SandboxError(
        f"{name!r} is not the name of a sandbox host",
        advice=f"use bot1 to bot{MAX_HOSTS}",
    )
