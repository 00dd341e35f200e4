"""Settings of every host, independent of its roles."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from deploys.component import ComponentSettings, Need
from deploys.resources import HostResources
from inventory.model import Inventory
from inventory.sections.base import Operator
from inventory.types import PackageName, Port, Size, TimeZone
from inventory.values import size_in_bytes

ALWAYS = ("ca-certificates", "libgomp1", "python3", "sudo", "tzdata")
"""Packages that other components rely on."""
MIB = 1 << 20
MEMORY = 300 * MIB
PACKAGES = 500 * MIB


class BaseSettings(ComponentSettings):
    """The foundation of one host. Plain data may leave out any of them."""

    packages: tuple[PackageName, ...] = Field(ALWAYS, description="All Debian packages to install.")
    operators: tuple[Operator, ...] = ()
    upgrade: Literal["never", "security", "all"] = "security"
    time_zone: TimeZone = "Etc/UTC"
    journal_max: Size = "500M"
    ssh_port: Port | None = Field(None, description="Port of sshd; the one in use when absent.")


def settings_for(inventory: Inventory, host: str) -> BaseSettings:
    """Return the settings of `host`; the same on all of them."""
    base = inventory.base
    return BaseSettings(
        packages=tuple(sorted({*ALWAYS, *base.packages})),
        operators=base.operators,
        upgrade=base.upgrade,
        time_zone=base.time_zone,
        journal_max=base.journal_max,
        ssh_port=base.ssh_port,
    )


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return what the system itself and its journal take."""
    journal = size_in_bytes(inventory.base.journal_max)
    return (
        Need(
            "system",
            memory=MEMORY,
            disk=PACKAGES + journal,
            how=f"kernel, systemd, sshd, logins {MEMORY // MIB} MiB; "
            f"packages {PACKAGES // MIB} MiB + journal {inventory.base.journal_max}",
        ),
    )
