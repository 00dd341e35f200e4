"""The Docker engine: package, configuration that is checked before it goes live, guard, service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from pyinfra import host
from pyinfra.api import StringCommand, deploy
from pyinfra.api.operation import OperationMeta

from deploys.docker import authorities
from deploys.docker.config import KNOWN, daemon_config, environment, guard_rules
from deploys.docker.settings import DOCKERS_OWN, PACKAGES, DockerSettings
from deploys.nvidia.detect import has_gpu
from deploys.ops import accounts, services, units
from deploys.ops.debian import packages, sources
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.paths import data, files
from deploys.ops.programs import program
from deploys.ops.removal import ForeignUnitFact, removal
from deploys.ops.run_state import Change
from deploys.ops.services import Service
from deploys.ops.shell import assignments, checking, script
from deploys.settings import settings_of
from inventory.errors import ArtifactError, HostError

CONFIG = "/etc/docker/daemon.json"
ENVIRONMENT = "/etc/docker/clawd.env"
GUARD = "/etc/docker/clawd.nft"
DROP_IN = "/etc/systemd/system/docker.service.d/clawd.conf"
FOLDERS = {"/etc/docker": ("key.json",), "/etc/containerd": ()}
"""Folders of its packages in /etc, with patterns of generated files: engines before 25.0 create a key."""
BEFORE = "/var/lib/clawd/state/daemon.json.before"
STAMP = "/var/lib/clawd/state/docker-guard.stamp"
TABLE = "inet clawd_docker"
READS = (CONFIG, ENVIRONMENT, DROP_IN)
UNIT = "docker.service"
READY = "docker version --format '{{.Server.Version}}'"


@deploy("Docker")
def apply() -> None:
    """Install the engine with exactly the declared configuration; undo one with which it does not start.

    Raises `ArtifactError` when the key of Docker's repository cannot be read, `HostError` on a release for
    which the source has no packages.
    """
    settings = settings_of("docker", DockerSettings)
    release: SystemCodename = host.get_fact(SystemCodenameFact)
    names = _source(settings, release)
    files.directory("/etc/docker")
    files.directory(DROP_IN.rsplit("/", 1)[0])
    _guard(settings)
    files.put(ENVIRONMENT, environment(settings), mode="0600", secret=settings.proxy is not None)
    files.template("docker/service.conf", DROP_IN, {"guarded": settings.guarded})
    packages.installed(*names, component="docker")
    authorities.trusted(settings)
    files.put(CONFIG, daemon_config(settings, gpu=settings.gpu and has_gpu(settings.root)), check=CHECK)
    services.converge(Service("docker", watch=READS, ready=READY, undo=_UNDO))


@removal("docker")
def remove() -> None:
    """Remove Docker, its containers and rules. Keep images and volumes unless purging.

    An engine that was there before keeps running, with its original configuration.
    """
    roots: tuple[str, ...] = host.get_fact(RootsFact)
    others = host.get_fact(ForeignUnitFact, unit=UNIT, owner="docker")
    if others:
        units.absent(UNIT, file=False)
        _guard_live(None, name="No guard before containers")
    else:
        stopped()
    packages.removed("docker", folders=FOLDERS)
    sources.absent("docker")
    for path in (DROP_IN.rsplit("/", 1)[0], BEFORE, STAMP):
        files.absent(path)
    for folder, generated in FOLDERS.items():
        files.absent(folder, generated=generated)
    services.forgotten(UNIT)
    if not others:
        accounts.absent("docker")
        kept = dict.fromkeys(roots, "images, containers and volumes of Docker")
        data.kept_or_purged("docker", kept, unit=UNIT)


@dataclass(frozen=True, slots=True)
class SystemCodename:
    """The system of a host, such as `debian` and `bookworm`."""

    system: str = ""
    codename: str = ""


class SystemCodenameFact(Fact):
    """The host's `SystemCodename`."""

    def command(self) -> str:
        """Return a script that prints two words."""
        return '. /etc/os-release && echo "$ID ${VERSION_CODENAME-}"'

    @staticmethod
    def default() -> SystemCodename:
        """Return an unknown release."""
        return SystemCodename()

    def process(self, output: list[str]) -> SystemCodename:
        """Split the line."""
        system, _, codename = output[0].partition(" ")
        return SystemCodename(system, codename.strip())


class RootsFact(Fact):
    """The folders with images, containers and volumes."""

    def command(self) -> str:
        """Return a script that prints one folder per line: the declared one, and those that packages use."""
        return assignments(config=CONFIG) + _ROOTS

    @staticmethod
    def default() -> tuple[str, ...]:
        """Return no folders."""
        return ()

    def process(self, output: list[str]) -> tuple[str, ...]:
        """Return the folders, each once."""
        return tuple(dict.fromkeys(line for line in output if line.startswith("/")))


_ROOTS = r"""
sed -n 's/^ *"data-root": "\(.*\)",*$/\1/p' "$config" 2>/dev/null
printf '%s\n' /var/lib/docker /var/lib/containerd
"""


def _source(settings: DockerSettings, release: SystemCodename) -> tuple[str, ...]:
    """Add the repository, unless the source is the distribution; return the names of the packages."""
    if settings.source == "distribution":
        sources.absent("docker")
        return (*PACKAGES.get(release.codename, ("docker.io",)), "apparmor", "ca-certificates")
    if release.system not in ("debian", "ubuntu") or not release.codename:
        raise HostError(
            f"{host.name}: Docker's repository has nothing for {release.system or 'this system'}",
            advice="write `docker.source: distribution`, or use Debian or Ubuntu",
        )
    sources.apt(
        "docker",
        uri=f"{settings.repository}/{release.system}",
        suite=release.codename,
        components=("stable",),
        key=_key(settings),
    )
    return (*DOCKERS_OWN, "apparmor", "ca-certificates")


def _key(settings: DockerSettings) -> bytes:
    try:
        return settings.key.read_bytes() if settings.key else b""
    except OSError as error:
        raise ArtifactError(
            f"the key of Docker's repository cannot be read: {error}",
            advice="put it where `docker.key` says: it is the file `gpg` in the repository",
        ) from error


def _guard(settings: DockerSettings) -> None:
    if not settings.guarded:
        _guard_live(None, name="No guard before containers")
        files.absent(GUARD)
        return
    packages.installed("nftables", component="docker")
    ruleset = files.render("docker/guard.nft", {"rules": guard_rules(settings.openings)})
    files.put(GUARD, ruleset, check="nft -c -f {}")
    _guard_live(sha256(ruleset.encode()).hexdigest(), name="Guard before containers")


CHECK = checking(
    program("deploys/docker/scripts/check.sh"), config=CONFIG, before=BEFORE, known=" ".join(sorted(KNOWN))
)
_UNDO = assignments(config=CONFIG, before=BEFORE) + program("deploys/docker/scripts/undo.sh")


@dataclass(frozen=True, slots=True)
class GuardState:
    """Our table in the kernel: its digest (empty when there is none), and the stamp of the last load."""

    digest: str = ""
    stamp: str = ""


class GuardFact(Fact):
    """State of our table."""

    def command(self) -> str:
        """Return a script that prints two lines."""
        return assignments(table=TABLE, stamp=STAMP) + _GUARD_STATE

    @staticmethod
    def default() -> GuardState:
        """Return that there is no table."""
        return GuardState()

    def process(self, output: list[str]) -> GuardState:
        """Turn the two lines into a `GuardState`."""
        digest, stamp = (*output, "", "")[:2]
        return GuardState(digest, stamp)


_LIVE = program("deploys/docker/scripts/live.sh")
_GUARD_STATE = program("deploys/docker/scripts/guard_state.sh")


@operation
def _guard_live(digest: str | None) -> Iterator[StringCommand]:
    state: GuardState = host.get_fact(GuardFact)
    if digest is None:
        if state.digest:
            record(Change(f"nftables {TABLE}", ("removed",)))
            yield script('nft delete table $table; rm -f "$stamp"', table=TABLE, stamp=STAMP)
    elif not state.digest or state.stamp != f"{digest} {state.digest}":
        record(Change(f"nftables {TABLE}", ("load the rules",)))
        yield script(_LOAD, config=GUARD, table=TABLE, stamp=STAMP, digest=digest)


_LOAD = program("deploys/docker/scripts/load_guard.sh")


class RunningFact(Fact):
    """Whether the host has a Docker engine, or containers or rules of one."""

    def command(self) -> str:
        """Return a script that prints yes or no."""
        return _RUNNING

    @staticmethod
    def default() -> bool:
        """Return False."""
        return False

    def process(self, output: list[str]) -> bool:
        """Return whether the script printed yes."""
        return output[0] == "yes"


_RUNNING = r"""
if command -v dockerd >/dev/null || [ -d /sys/class/net/docker0 ] ||
    nft list tables 2>/dev/null | grep -q 'inet clawd_docker$'; then echo yes; else echo no; fi
"""


def stopped() -> OperationMeta:
    """Stop all containers, and remove everything that an engine sets up in the kernel."""
    return _stopped(name="Stop containers and engine")


@operation
def _stopped() -> Iterator[StringCommand]:
    if host.get_fact(RunningFact):
        record(Change("docker", ("stop containers and engine",)))
        yield script(_STOP, table=TABLE)


_STOP = program("deploys/docker/scripts/stop.sh")
