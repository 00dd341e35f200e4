"""Hardening, as declared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from inventory.declared import Declared, Duration, HostAddress, Network, SysctlKey, SysctlValue, Text

BANNER = "Authorized use only. Access to this system is monitored and logged; all other use is prohibited."


class Fail2ban(Declared):
    """fail2ban: who fails to log in by SSH again and again is shut out for a while."""

    enabled: bool = Field(True, description="Whether fail2ban is installed.")
    tries: Annotated[int, Field(ge=2, le=100)] = Field(5, description="Failures before a ban.")
    within: Duration = Field("10m", description="The time in which they count.")
    ban: Duration = Field("1h", description="How long a ban lasts.")
    never: tuple[Network, ...] = Field(
        (),
        description="Networks never banned, beside `firewall.management` and the hosts of this file.",
    )


class Updates(Declared):
    """unattended-upgrades: security updates, every day."""

    enabled: bool = Field(True, description="Whether security updates are installed by themselves.")
    reboot: Annotated[str, Field(pattern=r"^(never|([01][0-9]|2[0-3]):[0-5][0-9])$")] = Field(
        "never", description="Time of day of a reboot that an update asks for, such as 04:30, or never."
    )


WeakHostKey = Literal["ecdsa", "rsa"]


class Hardening(Declared):
    """What makes a host harder to break into, beyond SSH keys and firewall."""

    enabled: bool = Field(True, description="Whether any of this is done.")
    fail2ban: Fail2ban = Field(Fail2ban(), description="Against guessing of passwords and logins.")
    updates: Updates = Field(Updates(), description="Security updates.")
    sysctl: dict[SysctlKey, SysctlValue] = Field(
        {}, description="Kernel settings beside, or other than, the usual set."
    )
    banner: Text = Field(
        BANNER,
        max_length=2000,
        description="Shown before a login, by SSH and at the console; empty for none.",
    )
    idle_minutes: Annotated[int, Field(ge=0, le=1440)] = Field(
        30,
        description="Minutes after which a login shell at its prompt ends, but in tmux and screen; "
        "0 for never.",
    )
    root_login: bool = Field(
        False,
        description="Whether root may log in with a key. It may also while a host is reached as root, "
        "or nobody is declared under `base.operators`: no run shuts itself out.",
    )
    weak_host_keys: tuple[WeakHostKey, ...] = Field(
        (),
        description="Types of weak host keys (ECDSA, RSA below 3072 bits) that sshd still offers, for "
        "people and programs that know a host by such a key alone. A host without others offers them anyway.",
    )
    time_servers: tuple[HostAddress, ...] = Field(
        (), description="NTP servers; those of the distribution when empty."
    )
