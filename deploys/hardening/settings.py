"""Settings of the hardening of a host."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pydantic import Field

from deploys.component import ComponentSettings, Need
from deploys.resources import HostResources
from inventory.addresses import is_address
from inventory.model import Inventory
from inventory.sections.hardening import BANNER, WeakHostKey
from inventory.types import Duration, HostAddress, SysctlKey, SysctlValue, Text

MIB = 1 << 20
SYSCTL: Mapping[str, str] = MappingProxyType(
    {
        "net.ipv4.tcp_syncookies": "1",
        "net.ipv4.icmp_echo_ignore_broadcasts": "1",
        # Loose: a host may have several routes out.
        "net.ipv4.conf.all.rp_filter": "2",
        "net.ipv4.conf.default.rp_filter": "2",
        "net.ipv4.conf.all.accept_redirects": "0",
        "net.ipv4.conf.default.accept_redirects": "0",
        "net.ipv4.conf.all.secure_redirects": "0",
        "net.ipv4.conf.all.send_redirects": "0",
        "net.ipv4.conf.default.secure_redirects": "0",
        "net.ipv4.conf.default.send_redirects": "0",
        "net.ipv4.conf.all.accept_source_route": "0",
        "net.ipv4.conf.default.accept_source_route": "0",
        "net.ipv4.conf.all.log_martians": "1",
        "net.ipv4.conf.default.log_martians": "1",
        "net.ipv4.icmp_ignore_bogus_error_responses": "1",
        "net.ipv6.conf.all.accept_redirects": "0",
        "net.ipv6.conf.default.accept_redirects": "0",
        "net.ipv6.conf.all.accept_source_route": "0",
        "net.ipv6.conf.default.accept_source_route": "0",
        "net.core.bpf_jit_harden": "2",
        "kernel.kptr_restrict": "2",
        "kernel.core_uses_pid": "1",
        "dev.tty.ldisc_autoload": "0",
        "kernel.dmesg_restrict": "1",
        "kernel.randomize_va_space": "2",
        "fs.protected_hardlinks": "1",
        "fs.protected_symlinks": "1",
        "fs.protected_fifos": "2",
        "fs.protected_regular": "2",
        "fs.suid_dumpable": "0",
    }
)
"""Safe on every server: none of them changes what a well-behaved program can do."""


class Fail2banSettings(ComponentSettings):
    """Limits after which an address is banned."""

    tries: int = 5
    within: Duration = "10m"
    ban: Duration = "1h"
    never: tuple[str, ...] = ()


class HardeningSettings(ComponentSettings):
    """Hardening of one host. Plain data may leave out anything."""

    fail2ban: Fail2banSettings | None = Fail2banSettings()
    updates: bool = Field(True, description="Whether security updates are installed automatically.")
    reboot: str = "never"
    sysctl: dict[SysctlKey, SysctlValue] = Field(dict(SYSCTL), description="All kernel settings.")
    required: tuple[SysctlKey, ...] = Field(
        (), description="Settings that must be in force; the host may refuse others."
    )
    banner: Text = BANNER
    idle_minutes: int = Field(30, ge=0, description="Minutes until an idle shell ends; 0 for never.")
    root_login: bool = Field(True, description="Whether root may log in with a key.")
    weak_host_keys: tuple[WeakHostKey, ...] = Field(
        (), description="Types of weak host keys that sshd still offers."
    )
    time_servers: tuple[HostAddress, ...] = ()


def settings_for(inventory: Inventory, host: str) -> HardeningSettings | None:
    """Return the settings of `host`. Root may log in unless another login is certain to have sudo."""
    declared = inventory.hardening
    if not declared.enabled:
        return None
    fail2ban = declared.fail2ban
    return HardeningSettings(
        fail2ban=Fail2banSettings(
            tries=fail2ban.tries,
            within=fail2ban.within,
            ban=fail2ban.ban,
            never=_never(inventory),
        )
        if fail2ban.enabled
        else None,
        updates=declared.updates.enabled and inventory.hosts[host].internet,
        reboot=declared.updates.reboot,
        sysctl={**SYSCTL, **declared.sysctl},
        required=tuple(declared.sysctl),
        banner=declared.banner,
        idle_minutes=declared.idle_minutes,
        root_login=declared.root_login or root_is_needed(inventory, host),
        weak_host_keys=declared.weak_host_keys,
        time_servers=declared.time_servers,
    )


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return what fail2ban's process and the packages take."""
    settings = settings_for(inventory, host)
    if settings is None:
        return ()
    memory = 40 * MIB if settings.fail2ban else 0
    how = "fail2ban 40 MiB; packages 60 MiB" if memory else "packages 60 MiB"
    return (Need("hardening", memory=memory, disk=60 * MIB, how=how),)


def root_is_needed(inventory: Inventory, host: str) -> bool:
    """Return whether `host` is reached as root, or no other login is known to have sudo."""
    return not inventory.base.operators or inventory.hosts[host].user == "root"


def _never(inventory: Inventory) -> tuple[str, ...]:
    """Return the networks that are never banned: those of the inventory's own machines and people."""
    machines = {
        address
        for name, host in inventory.hosts.items()
        for address in (
            host.address,
            inventory.internal(name),
            *((host.bastion.address,) if host.bastion and host.bastion.address else ()),
        )
        if is_address(address)
    }
    networks = (*inventory.firewall.management, *inventory.hardening.fail2ban.never)
    return ("127.0.0.0/8", "::1", *sorted(machines), *map(str, networks))
