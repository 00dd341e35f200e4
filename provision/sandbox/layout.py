"""Where a sandbox lives on this machine: its folder, its bridge and its addresses.

Everything the sandbox makes is found through a `Layout`, so that two sandboxes (say, the
one in use and the one a test makes) can stand side by side without touching each other.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from inventory.errors import SandboxError
from provision.artifacts.cache import default_folder

MAX_HOSTS = 99
"""Names stay short enough for a network interface, addresses within the subnet."""

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

    `bridge` names the network interface and everything else that is visible machine-wide,
    so it must differ between sandboxes. At most 6 characters, because a host's interface
    (`vb-<bridge>-<name>`) may have 15.
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
        """The address of this machine on the bridge, and the hosts' gateway."""
        return self.subnet[1]

    def address(self, name: str) -> IPv4Address:
        """The address of host `name`: bot1 has .11, bot2 has .12, and so on."""
        return self.subnet[_FIRST_ADDRESS + number_of(name)]

    def machine(self, name: str) -> str:
        """What host `name` is called where names are shared by the whole machine."""
        return f"{self.bridge}-{name}"

    def interface(self, name: str) -> str:
        """This machine's end of the cable to host `name`."""
        return f"vb-{self.machine(name)}"

    @property
    def hosts(self) -> Path:
        """One folder a host."""
        return self.folder / "hosts"

    def host(self, name: str) -> Path:
        """The folder of host `name`."""
        return self.hosts / name

    @property
    def key(self) -> Path:
        """The private SSH key of `operator` and root; the public one lies beside it."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """The host keys of all hosts."""
        return self.folder / "known_hosts"

    @property
    def secrets(self) -> Path:
        """One file a secret of `inventory/sandbox.yml`."""
        return self.folder / "secrets"

    @property
    def inventory(self) -> Path:
        """The inventory of the hosts that run."""
        return self.folder / "inventory.yml"

    @property
    def lock(self) -> Path:
        """Held by whoever changes the sandbox."""
        return self.folder / "lock"


def host_name(number: int) -> str:
    """The name of the `number`th host, counted from 1."""
    return f"bot{number}"


def number_of(name: str) -> int:
    """Which host `name` is, counted from 1. Raises SandboxError for a name that is none."""
    digits = name.removeprefix("bot")
    if name.startswith("bot") and digits.isascii() and digits.isdigit() and not digits.startswith("0"):
        number = int(digits)
        if 1 <= number <= MAX_HOSTS:
            return number
    raise SandboxError(
        f"{name!r} is not the name of a sandbox host",
        advice=f"The hosts are called bot1 to bot{MAX_HOSTS}.",
    )
