"""fail2ban, security updates, kernel settings, login banner, root login, sudo and time."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from types import MappingProxyType

from pyinfra import host
from pyinfra.api import deploy

from deploys.base.deploy import SSHD_CHECK, SSHD_FILES, empty_folder
from deploys.hardening import sysctl
from deploys.hardening.settings import Fail2banSettings, HardeningSettings
from deploys.ops import services, units
from deploys.ops.debian import packages
from deploys.ops.debian.packages import BroughtFact
from deploys.ops.facts import Fact
from deploys.ops.paths import data, files
from deploys.ops.programs import program
from deploys.ops.removal import removal
from deploys.ops.services import Service
from deploys.os_releases import release_of
from deploys.settings import settings_of
from inventory.errors import HostError

JAIL = "/etc/fail2ban/jail.d/zz-clawd.local"
UPDATES = "/etc/apt/apt.conf.d/52clawd-security-updates"
UPGRADES = "unattended-upgrades"
TIMERS = ("apt-daily.timer", "apt-daily-upgrade.timer")
"""The first one updates the package lists, the second installs updates."""
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
IDLE = "/etc/profile.d/clawd-idle.sh"
ISSUES = ("/etc/issue", "/etc/issue.net")
"""Shown before a login at the console, and by programs that read these files."""
PACKAGE_FILES = "/etc/default/debsums"
PACKAGE_FILES_CHECK = "/etc/cron.weekly/debsums"
"""The program of the package debsums, which reads `PACKAGE_FILES`."""
PACKAGE_FILES_UNITS = ("clawd-package-files.service", "clawd-package-files.timer")
UNITS = "/etc/systemd/system"
COREDUMP = "/etc/systemd/coredump.conf.d/60-clawd.conf"

BANS = "fail2ban-client get sshd actions | grep -qx nftables-allports"
"""Succeeds when fail2ban really blocks the addresses that it bans."""

# The whole present configuration with the new file in it.
JAIL_CHECK = """(
    whole=$(mktemp -d)
    trap 'rm -rf "$whole"' EXIT
    cp -a /etc/fail2ban/. "$whole"
    cp {} "$whole/jail.d/zz-clawd.local"
    fail2ban-client -c "$whole" -t
)"""


@deploy("Hardening")
def apply() -> None:
    """Harden the host. Where the run logs in as root, root's login stays."""
    settings = settings_of("hardening", HardeningSettings)
    clock: TimeKeeping = host.get_fact(ClockFact)
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
    _idle_shells(settings.idle_minutes)
    _package_files()
    if not clock.kept_otherwise:
        _time(settings, clock)


@removal("hardening")
def remove() -> None:
    """Remove the hardening, and restore kernel settings. Logs of fail2ban and of updates go with `purge`."""
    for path in (SSHD, SUDOERS):
        files.absent(path)
    services.converge(Service("ssh", watch=SSHD_FILES, reload=True))
    sysctl.restored()
    for unit in reversed(PACKAGE_FILES_UNITS):
        units.absent(unit)
    units.absent("fail2ban.service", file=False)
    for unit in (*TIMERS, "systemd-timesyncd.service"):
        services.forgotten(unit)
    everywhere = (
        JAIL,
        UPDATES,
        SYSCTL,
        BANNER,
        *ISSUES,
        TIMESYNCD,
        LIMITS,
        PROFILE,
        IDLE,
        COREDUMP,
        MODPROBE,
    )
    for path in (*everywhere, PACKAGE_FILES):
        files.absent(path)
    for path in (COREDUMP, MODPROBE):
        empty_folder(path.rsplit("/", 1)[0], ours=path)
    # Its package leaves it running when it is removed.
    if UPGRADES in (host.get_fact(BroughtFact, component="hardening") or ()):
        units.absent(f"{UPGRADES}.service", file=False)
    packages.removed("hardening", folders={"/etc/fail2ban": ()})
    data.kept_or_purged("hardening", dict.fromkeys(LOGS, "logs of bans and updates"))


LOGS = ("/var/log/fail2ban.log", "/var/log/unattended-upgrades")


@dataclass(frozen=True, slots=True)
class TimeKeeping:
    """The clock of a host: kept by its machine if it is a container, or by another program than timesyncd."""

    container: bool = False
    other: str = ""
    id: str = "debian"
    version: str = ""

    @property
    def kept_otherwise(self) -> bool:
        """Return whether timesyncd is not needed there."""
        return self.container or bool(self.other)


class ClockFact(Fact):
    """The program that keeps the time, and the release of the host."""

    def command(self) -> str:
        """Return a script that prints whether it is a container, another time daemon, and the release."""
        return _CLOCK

    @staticmethod
    def default() -> TimeKeeping:
        """Return a machine on which nothing is installed yet."""
        return TimeKeeping()

    def process(self, output: list[str]) -> TimeKeeping:
        """Turn the script's lines into a `TimeKeeping`."""
        container, other, id, version = (*output, "", "", "", "")[:4]
        return TimeKeeping(container == "container", other, id, version)


_CLOCK = r"""
if systemd-detect-virt --quiet --container; then echo container; else echo; fi
dpkg-query -W -f='${Package} ${db:Status-Status}\n' chrony ntpsec openntpd 2>/dev/null |
    sed -n 's/ installed$//p' | grep . || echo
. /etc/os-release; echo "$ID"; echo "$VERSION_ID"
"""


def _packages(settings: HardeningSettings, clock: TimeKeeping) -> Iterator[str]:
    if settings.fail2ban:
        yield from ("fail2ban", "nftables", "python3-systemd")
    if settings.updates:
        yield UPGRADES
    if not clock.kept_otherwise:
        yield "systemd-timesyncd"
    # They check whether files of packages are as shipped, and new passwords of logins.
    yield from ("debsums", "libpam-pwquality", "sudo")


def _fail2ban(settings: Fail2banSettings | None) -> None:
    if settings is None:
        units.absent("fail2ban.service", file=False)
        files.absent(JAIL)
        return
    files.template("hardening/jail.local", JAIL, settings.model_dump(), check=JAIL_CHECK)
    # Restarted, not reloaded: after a reload that changes the action, fail2ban 1.1.0 has none. Bans persist.
    services.converge(Service("fail2ban", watch=(JAIL,), ready=BANS, timeout=30))


def _updates(settings: HardeningSettings) -> None:
    if not settings.updates:
        files.absent(UPDATES)
        return
    clock: TimeKeeping = host.get_fact(ClockFact)
    release = release_of(clock.id, clock.version)
    values = {"origins": release.security if release else (), "reboot": settings.reboot}
    files.template("hardening/apt.conf", UPDATES, values, check="apt-config -c {} dump >/dev/null")
    for timer in TIMERS:
        services.converge(Service(timer))


def _ssh(settings: HardeningSettings) -> None:
    """Write the file that sorts before base's, so that its values win."""
    _banner(settings.banner.rstrip())
    by_root = host.data.get("ssh_user") in (None, "root")
    values = {
        "root_login": settings.root_login or by_root,
        "banner": BANNER if settings.banner else "",
        "refused_host_keys": _refused_host_keys(settings.weak_host_keys),
    }
    files.template("hardening/sshd.conf", SSHD, values, check=SSHD_CHECK)
    services.converge(Service("ssh", watch=SSHD_FILES, reload=True))


def _banner(text: str) -> None:
    """Show the banner before every login by SSH or at the console, there with host name and terminal."""
    # agetty expands a backslash and the character after it.
    console = text.replace("\\", "\\\\") + "\n\n\\n \\l\n\n"
    for path, content in zip((BANNER, *ISSUES), (f"{text}\n", console, f"{text}\n"), strict=True):
        if text:
            files.put(path, content)
        else:
            files.absent(path)


def _idle_shells(minutes: int) -> None:
    """End login shells that wait at their prompt for `minutes`; 0 means never."""
    if minutes:
        files.template("hardening/idle.sh", IDLE, {"seconds": minutes * 60}, check="sh -n {}")
    else:
        files.absent(IDLE)


def _package_files() -> None:
    """Have the files of packages compared every week: by cron where there is one, else by a timer."""
    files.template("hardening/debsums", PACKAGE_FILES, {}, check="sh -n {}")
    paths = tuple(f"{UNITS}/{unit}" for unit in PACKAGE_FILES_UNITS)
    for unit, path in zip(PACKAGE_FILES_UNITS, paths, strict=True):
        files.template(f"hardening/{unit}", path, {"program": PACKAGE_FILES_CHECK})
    services.converge(Service(PACKAGE_FILES_UNITS[1], watch=paths))


RSA_BITS = 3072
"""Least size of a host key; `ssh-keygen -A` uses it on every release."""
WEAK = MappingProxyType({"ecdsa": "ecdsa-sha2-*", "rsa": "rsa-sha2-*"})
"""The algorithms of host keys that may be weak: those of NIST's curves, and RSA with a short key."""


CERTIFIED = "-cert"
"""What the type of a host certificate ends with, as `ssh-keygen -l` prints it."""


@dataclass(frozen=True, slots=True)
class HostKey:
    """A host key of sshd: its type (`ed25519`, `ecdsa`, `rsa`; with `-cert` a certificate) and size."""

    type: str
    bits: int

    @property
    def weak(self) -> bool:
        """Return whether it uses one of NIST's curves, or is a short one of RSA."""
        return self.type == "ecdsa" or (self.type == "rsa" and self.bits < RSA_BITS)


def refused_host_keys(keys: Iterable[HostKey], kept: Container[str] = ()) -> tuple[str, ...]:
    """Return the algorithms of host keys that sshd no longer offers: those of its weak `keys`.

    Only the host's keys and the declared ones (`kept`) decide, not the connected client: runs from several
    laptops agree. A host without any other key keeps its weak ones.
    """
    listed = tuple(keys)
    # Clients that trust the authority of a host certificate know no other key of the host.
    certified = {key.type.removesuffix(CERTIFIED) for key in listed if key.type.endswith(CERTIFIED)}
    have = tuple(key for key in listed if not key.type.endswith(CERTIFIED))
    if all(key.weak for key in have):
        return ()
    # A key that the host gets later, by `ssh-keygen -A` for instance, is refused as well.
    weak = {"ecdsa"} | {key.type for key in have if key.weak}
    return tuple(WEAK[type] for type in sorted(weak - certified) if type not in kept)


def _refused_host_keys(kept: tuple[str, ...]) -> tuple[str, ...]:
    """Raise `HostError` where this connection could not be opened again: plain pyinfra asks for no proof."""
    refused = refused_host_keys(host.get_fact(HostKeysFact), kept)
    client = getattr(host.connector, "client", None)
    transport = client.get_transport() if client else None
    in_use = str(getattr(transport, "host_key_type", None) or "")
    if not getattr(transport, "proves_host_keys", False) and any(fnmatch(in_use, each) for each in refused):
        raise HostError(
            f"{host.name}: this machine knows the host by a key of the type {in_use}, "
            f"which sshd would no longer offer",
            advice=f"put another one of its keys (/etc/ssh/ssh_host_*_key.pub there) into known_hosts first, "
            f"or declare `weak_host_keys: [{in_use.partition('-')[0]}]` under `hardening`",
        )
    return refused


class HostKeysFact(Fact):
    """The host keys of sshd."""

    def command(self) -> str:
        """Return a script that prints a line of `ssh-keygen -l` for each."""
        return _HOST_KEYS

    @staticmethod
    def default() -> tuple[HostKey, ...]:
        """Return none."""
        return ()

    def process(self, output: list[str]) -> tuple[HostKey, ...]:
        """Turn lines such as `3072 SHA256:… root@host (RSA)` into `HostKey`s."""
        rows = [line.split() for line in output]
        return tuple(
            HostKey(row[-1].strip("()").lower(), int(row[0]))
            for row in rows
            if len(row) > 2 and row[0].isdigit()
        )


_HOST_KEYS = program("deploys/hardening/scripts/host_keys.sh")


def _time(settings: HardeningSettings, clock: TimeKeeping) -> None:
    files.directory(TIMESYNCD.rpartition("/")[0])
    files.template("hardening/timesyncd.conf", TIMESYNCD, {"servers": settings.time_servers})
    services.converge(Service("systemd-timesyncd", watch=(TIMESYNCD,)))
