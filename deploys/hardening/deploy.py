"""fail2ban, security updates, kernel settings, login banner, root login, sudo and time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import deploy

from deploys.base.deploy import SSHD_CHECK, SSHD_FILES, empty_folder
from deploys.hardening import sysctl
from deploys.hardening.settings import Fail2banSettings, HardeningSettings
from deploys.ops import data, files, packages, services, units
from deploys.ops.facts import Fact
from deploys.ops.packages import BroughtFact
from deploys.ops.removal import removal
from deploys.releases import release_of
from deploys.settings import settings_of

JAIL = "/etc/fail2ban/jail.d/zz-clawd.local"
UPDATES = "/etc/apt/apt.conf.d/52clawd-security-updates"
UPGRADES = "unattended-upgrades"
TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer")
"""The one reads the lists of packages, the other installs updates."""
SYSCTL = "/etc/sysctl.d/60-clawd.conf"
SSHD = SSHD_FILES[0]
BANNER = "/etc/clawd/banner"
SUDOERS = "/etc/sudoers.d/clawd-hardening"
TIMESYNCD = "/etc/systemd/timesyncd.conf.d/10-clawd.conf"

LIMITS = "/etc/security/limits.d/60-clawd-cores.conf"
MODPROBE = "/etc/modprobe.d/clawd-unused.conf"
UNUSED_MODULES = (
    *("dccp", "rds", "sctp", "tipc"),
    *("cramfs", "freevxfs", "hfs", "hfsplus", "jffs2"),
    *("firewire-core", "firewire-ohci", "firewire-sbp2"),
)
PROFILE = "/etc/profile.d/clawd-cores.sh"
COREDUMP = "/etc/systemd/coredump.conf.d/60-clawd.conf"

BANS = "fail2ban-client get sshd actions | grep -qx nftables-allports"
"""Succeeds when who fails to log in is really shut out."""

# The whole of the present configuration with the new file in it.
JAIL_CHECK = """(
    whole=$(mktemp -d)
    trap 'rm -rf "$whole"' EXIT
    cp -a /etc/fail2ban/. "$whole"
    cp {} "$whole/jail.d/zz-clawd.local"
    fail2ban-client -c "$whole" -t
)"""


@deploy("Hardening")
def apply() -> None:
    """The host hardened. Whoever runs this as root keeps root's login."""
    settings = settings_of("hardening", HardeningSettings)
    clock: Clock = host.get_fact(ClockFact)
    packages.installed(*_packages(settings, clock), component="hardening")
    _fail2ban(settings.fail2ban)
    _updates(settings)
    files.template("hardening/sysctl.conf", SYSCTL, {"settings": sorted(settings.sysctl.items())})
    sysctl.in_force(settings.sysctl, settings.required)
    _ssh(settings)
    files.template("hardening/sudoers", SUDOERS, {}, mode="0440", check="/usr/sbin/visudo -cqf {}")
    files.template("hardening/limits.conf", LIMITS, {})
    files.directory(MODPROBE.rpartition("/")[0])
    files.template("hardening/modprobe.conf", MODPROBE, {"modules": UNUSED_MODULES})
    files.template("hardening/profile.sh", PROFILE, {}, check="sh -n {}")
    files.directory(COREDUMP.rpartition("/")[0])
    files.template("hardening/coredump.conf", COREDUMP, {})
    if not clock.kept_otherwise:
        _time(settings, clock)


@removal("hardening")
def remove() -> None:
    """None of it; kernel settings are what they were. Logs of fail2ban and of updates go with `purge`."""
    for path in (SSHD, SUDOERS):
        files.absent(path)
    services.converge("ssh", inputs="", watch=SSHD_FILES, reload=True)
    sysctl.restored()
    units.absent("fail2ban.service", file=False)
    for unit in (*TIMERS, "systemd-timesyncd.service"):
        services.forgotten(unit)
    for path in (JAIL, UPDATES, SYSCTL, BANNER, TIMESYNCD, LIMITS, PROFILE, COREDUMP, MODPROBE):
        files.absent(path)
    for path in (COREDUMP, MODPROBE):
        empty_folder(path.rsplit("/", 1)[0], ours=path)
    # Its package leaves it running.
    if UPGRADES in (host.get_fact(BroughtFact, component="hardening") or ()):
        units.absent(f"{UPGRADES}.service", file=False)
    packages.removed("hardening")
    data.kept_or_purged("hardening", dict.fromkeys(LOGS, "logs of bans and updates"))


LOGS = ("/var/log/fail2ban.log", "/var/log/unattended-upgrades")


@dataclass(frozen=True, slots=True)
class Clock:
    """Who keeps a host's time: its own machine when it is a container, or another program than timesyncd."""

    container: bool = False
    other: str = ""
    id: str = "debian"
    version: str = ""

    @property
    def kept_otherwise(self) -> bool:
        """Whether timesyncd has nothing to do there."""
        return self.container or bool(self.other)


class ClockFact(Fact):
    """Who keeps the time, and on which release."""

    def command(self) -> str:
        """A script that prints whether it is a container, another time daemon, and the release."""
        return _CLOCK

    @staticmethod
    def default() -> Clock:
        """A machine with nothing yet."""
        return Clock()

    def process(self, output: list[str]) -> Clock:
        """Turn the script's lines into a `Clock`."""
        container, other, id, version = (*output, "", "", "", "")[:4]
        return Clock(container == "container", other, id, version)


_CLOCK = r"""
if systemd-detect-virt --quiet --container; then echo container; else echo; fi
dpkg-query -W -f='${Package} ${db:Status-Status}\n' chrony ntpsec openntpd 2>/dev/null |
    sed -n 's/ installed$//p' | grep . || echo
. /etc/os-release; echo "$ID"; echo "$VERSION_ID"
"""


def _packages(settings: HardeningSettings, clock: Clock) -> Iterator[str]:
    if settings.fail2ban:
        yield from ("fail2ban", "nftables", "python3-systemd")
    if settings.updates:
        yield UPGRADES
    if not clock.kept_otherwise:
        yield "systemd-timesyncd"
    # Whether files of packages are as they were shipped; and passwords, where somebody gives a login one.
    yield from ("debsums", "libpam-pwquality", "sudo")


def _fail2ban(settings: Fail2banSettings | None) -> None:
    if settings is None:
        units.absent("fail2ban.service", file=False)
        files.absent(JAIL)
        return
    files.template("hardening/jail.local", JAIL, settings.model_dump(), check=JAIL_CHECK)
    # Not reloaded: where that changes the action, fail2ban 1.1.0 goes on with none. Bans outlive a restart.
    services.converge("fail2ban", inputs="", watch=(JAIL,), ready=BANS, timeout=30)


def _updates(settings: HardeningSettings) -> None:
    if not settings.updates:
        files.absent(UPDATES)
        return
    clock: Clock = host.get_fact(ClockFact)
    release = release_of(clock.id, clock.version)
    values = {"origins": release.security if release else (), "reboot": settings.reboot}
    files.template("hardening/apt.conf", UPDATES, values, check="apt-config -c {} dump >/dev/null")
    for timer in TIMERS:
        services.converge(timer, inputs="")


def _ssh(settings: HardeningSettings) -> None:
    """The file stands before base's, so that what it says wins."""
    if settings.banner:
        files.put(BANNER, f"{settings.banner.rstrip()}\n")
    else:
        files.absent(BANNER)
    by_root = host.data.get("ssh_user") in (None, "root")
    values = {
        "root_login": settings.root_login or by_root,
        "banner": BANNER if settings.banner else "",
        "refused_host_keys": refused_host_keys(_host_key_in_use(), host.get_fact(RsaKeyFact)),
    }
    files.template("hardening/sshd.conf", SSHD, values, check=SSHD_CHECK)
    services.converge("ssh", inputs="", watch=SSHD_FILES, reload=True)


RSA_BITS = 3072
"""Of a host key; what `ssh-keygen -A` makes on every release."""


def refused_host_keys(in_use: str, rsa_bits: int) -> tuple[str, ...]:
    """The algorithms of host keys that are no longer offered: NIST's curves, and RSA with a short key.

    What the connection `in_use` was checked by stays, or this run would be the last: a known_hosts or an
    inventory may have no other key of the host. `rsa_bits` is 0 when there is no RSA key.
    """
    kinds = {"ecdsa": ("ecdsa-sha2-*",), "rsa": ("rsa-sha2-*",) if 0 < rsa_bits < RSA_BITS else ()}
    return tuple(name for kind, names in kinds.items() if kind not in in_use for name in names)


def _host_key_in_use() -> str:
    """The algorithm of the key by which the host of this connection was known; empty where there is none."""
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client else None
    return str(getattr(transport, "host_key_type", None) or "")


class RsaKeyFact(Fact):
    """The bits of the RSA host key; 0 when there is none."""

    def command(self) -> str:
        """Print them."""
        return "ssh-keygen -lf /etc/ssh/ssh_host_rsa_key.pub 2>/dev/null || true"

    @staticmethod
    def default() -> int:
        """None."""
        return 0

    def process(self, output: list[str]) -> int:
        """`3072 SHA256:… root@host (RSA)`."""
        first = output[0].split() if output else []
        return int(first[0]) if first and first[0].isdigit() else 0


def _time(settings: HardeningSettings, clock: Clock) -> None:
    files.directory(TIMESYNCD.rpartition("/")[0])
    files.template("hardening/timesyncd.conf", TIMESYNCD, {"servers": settings.time_servers})
    services.converge("systemd-timesyncd", inputs="", watch=(TIMESYNCD,))
