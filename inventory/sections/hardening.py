"""The section `hardening` of an inventory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from inventory.types import Declared, Duration, HostAddress, Network, SysctlKey, SysctlValue, Text

BANNER = "Authorized use only. Access to this system is monitored and logged; all other use is prohibited."


class Fail2ban(Declared):
    """Settings of fail2ban, which bans an address temporarily after repeated failed SSH logins."""

    enabled: bool = Field(True, description="Whether fail2ban is installed.")
    tries: Annotated[int, Field(ge=2, le=100)] = Field(5, description="Number of failed logins before a ban.")
    within: Duration = Field("10m", description="Period in which failed logins are counted.")
    ban: Duration = Field("1h", description="Duration of a ban.")
    never: tuple[Network, ...] = Field(
        (),
        description="Networks that are never banned, in addition to `firewall.management` and the hosts of "
        "this file.",
    )


class Updates(Declared):
    """Settings of unattended-upgrades, which installs security updates every day."""

    enabled: bool = Field(True, description="Whether security updates are installed automatically.")
    reboot: Annotated[str, Field(pattern=r"^(never|([01][0-9]|2[0-3]):[0-5][0-9])$")] = Field(
        "never",
        description="Time of day of a reboot that an update requires, such as 04:30, or never.",
    )


WeakHostKey = Literal["ecdsa", "rsa"]


class Hardening(Declared):
    """Hardening of hosts, in addition to SSH keys and firewall."""

    enabled: bool = Field(True, description="Whether hosts are hardened.")
    fail2ban: Fail2ban = Field(Fail2ban(), description="Temporary bans after failed SSH logins.")
    updates: Updates = Field(Updates(), description="Automatic security updates.")
    sysctl: dict[SysctlKey, SysctlValue] = Field(
        {}, description="Kernel settings that extend or override the default set."
    )
    banner: Text = Field(
        BANNER,
        max_length=2000,
        description="Text that is shown before a login, by SSH and at the console; empty for none.",
    )
    idle_minutes: Annotated[int, Field(ge=0, le=1440)] = Field(
        30,
        description="Time after which an idle login shell ends, except in tmux and screen, in minutes; "
        "0 for never.",
    )
    root_login: bool = Field(
        False,
        description="Whether root may log in with a key. It is also allowed while a host is reached as root "
        "or `base.operators` is empty, so that no run locks itself out.",
    )
    weak_host_keys: tuple[WeakHostKey, ...] = Field(
        (),
        description="Types of weak host keys (ECDSA, RSA below 3072 bits) that sshd still offers, for "
        "people and programs that know a host by such a key alone. A host without others offers them anyway.",
    )
    time_servers: tuple[HostAddress, ...] = Field(
        (), description="NTP servers; the distribution's default when empty."
    )
