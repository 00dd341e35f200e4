"""Preflight checks: whether hosts meet the requirements of the inventory, before anything changes.

All hosts are probed once, concurrently; then pure rules check the facts. Problems are refused, all of them on
all hosts at once; a host that is smaller than recommended gets a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from deploys.os_releases import OLDEST_PYTHON, RELEASES, release_of
from deploys.registry import COMPONENTS
from deploys.resources import Amount, HostResources
from inventory.errors import CapacityError, ClawdError, HostError
from inventory.model import Inventory
from inventory.reading.source import KeyPath
from provision.artifacts.host_kind import ARCHITECTURES
from provision.connection.session import Session
from provision.local.concurrency import outcomes
from provision.preflight import declared_values
from provision.preflight.capacity import Capacity, capacity_of, shortages, warnings
from provision.preflight.facts import FileSystem, HostFacts, PortListener, probe
from provision.progress import RunProgress

LEAST_CORES = 2
LEAST_MEMORY_MB = 3600
"""4 GB without the memory of firmware and kernel."""
LEAST_SYSTEM_DISK_MB = 28_000
LEAST_DATA_DISK_MB = 46_000
"""30 and 50 GB without the overhead of the file system, in the manufacturer's units."""
RESERVE_MB = 150
"""Free space that a run needs in addition to what it installs."""
MOST_CLOCK_SKEW_S = 120
SYSTEM = "/"
STATE = "/var/lib/clawd"
UNITS = {"database": ("postgresql",), "exporters": ("prometheus",), "alertmanager": ("prometheus",)}
"""Prefixes of a component's unit names, if they are not the name of the component."""


@dataclass(frozen=True, slots=True)
class PreflightFinding:
    """A finding about one host, with a hint; it stops the run when it is `refused`."""

    text: str
    refused: bool = True
    capacity: bool = False


def examine(
    inventory: Inventory,
    session: Session,
    progress: RunProgress,
    hosts: Collection[str] | None = None,
    place: Callable[[tuple[KeyPath, ...]], str] = lambda at: "",
) -> dict[str, HostFacts]:
    """Probe every connected host, or those of `hosts`; return their facts and report warnings.

    `place` returns the position of a declared value in the inventory's file. Raises `HostError` with all
    findings of all hosts, `CapacityError` when all of them are about size.
    """
    asked: dict[str, declared_values.Rows] = {}

    def ask(host: str) -> HostFacts:
        paths = {item.need.path for item in capacity_of(inventory, host).placed} | {STATE}
        more = declared_values.script(inventory, host)
        script = probe(paths, ask_mirrors=inventory.hosts[host].internet, more=more)
        done = session.run(host, script, timeout=60)
        asked[host] = declared_values.answers(done.stdout)
        return HostFacts.parse(host, done)

    answers = outcomes(session.hosts if hosts is None else hosts, ask)
    facts = {host: known for host, known in answers.items() if isinstance(known, HostFacts)}
    now = datetime.now(UTC)
    found = [item for host, known in facts.items() for item in findings(inventory, host, known, now)]
    found += [PreflightFinding(str(error)) for error in answers.values() if isinstance(error, ClawdError)]
    releases = {host: str(release_of(known.id, known.version) or known.id) for host, known in facts.items()}
    declared = {host: rows for host, rows in asked.items() if host in facts}
    found += [
        PreflightFinding(text) for text in declared_values.reported(inventory, releases, declared, place)
    ]
    for error in answers.values():
        if isinstance(error, Exception) and not isinstance(error, ClawdError):
            raise error
    for item in found:
        if not item.refused:
            progress.warn(item.text)
    refused = [item for item in found if item.refused]
    if refused:
        raised = CapacityError if all(item.capacity for item in refused) else HostError
        raise raised("\n".join(item.text for item in refused))
    return facts


def unknown_packages(
    inventory: Inventory, session: Session, host: str, place: Callable[[tuple[KeyPath, ...]], str]
) -> tuple[str, ...]:
    """Return what `examine` would report of declared packages with the index that the host has just read.

    The result is empty when the host cannot be probed.
    """
    more = declared_values.script(inventory, host, updated=True)
    try:
        done = session.run(host, probe((), ask_mirrors=False, more=more), timeout=60)
        facts = HostFacts.parse(host, done)
    except ClawdError:
        return ()
    rows = {"package": declared_values.answers(done.stdout).get("package", ())}
    releases = {host: str(release_of(facts.id, facts.version) or facts.id)}
    return tuple(declared_values.reported(inventory, releases, {host: rows}, place))


def findings(
    inventory: Inventory, host: str, facts: HostFacts, now: datetime
) -> tuple[PreflightFinding, ...]:
    """Return all findings about one host."""
    capacity = capacity_of(inventory, host, found_resources(inventory, host, facts))
    return (
        *_system(inventory, host, facts),
        *_clock(host, facts, now),
        *(PreflightFinding(text, capacity=True) for text in shortages(capacity)),
        *(PreflightFinding(text, refused=False) for text in warnings(capacity)),
        *_disks(inventory, host, facts, capacity),
        *_ports(inventory, host, facts),
        *_mirrors(host, facts),
        *_smallness(inventory, host, facts, capacity),
        *_refusals(inventory, host, facts),
    )


def found_resources(inventory: Inventory, host: str, facts: HostFacts) -> HostResources:
    """Return the resources of the actual host. GPU memory stays as declared until a driver reports it.

    Without a GPU the model is placed in the host's memory; where a GPU is required, the component nvidia
    reports that it is missing.
    """
    declared = inventory.hosts[host]
    if facts.gpu_memory_mb:
        gpu_memory: Amount | None = Amount.found(facts.gpu_memory_mb << 20)
    elif facts.gpus == 0 and declared.gpu == "auto":
        gpu_memory = None
    else:
        gpu_memory = Amount.declared(declared.gpu_memory)
    return HostResources(Amount.found(facts.memory_mb << 20), gpu_memory)


def _system(inventory: Inventory, host: str, facts: HostFacts) -> Iterator[PreflightFinding]:
    release = release_of(facts.id, facts.version)
    # This applies to containers as well: they use the host's Python, for which the release is built.
    runs_bots = "runtime" in inventory.hosts[host].roles
    if release is None:
        known = ", ".join(str(item) for item in RELEASES)
        yield PreflightFinding(f"{host}: {facts.id} {facts.version} is not supported; use one of: {known}")
    elif release.python < OLDEST_PYTHON and runs_bots:
        yield PreflightFinding(
            f"{host}: {release} has Python {_dotted(release.python)}, but the bots need "
            f"{_dotted(OLDEST_PYTHON)}; use a newer release"
        )
    if facts.architecture not in ARCHITECTURES:
        yield PreflightFinding(
            f"{host}: {facts.architecture} is not supported; the bots run only on "
            f"{' and '.join(ARCHITECTURES)}"
        )
    if facts.uid != 0:
        yield PreflightFinding(
            f"{host}: commands do not run as root; give the login sudo for all commands, without a password "
            f"or with `sudo_password` under `hosts.{host}`"
        )
    if facts.init != "systemd":
        yield PreflightFinding(
            f"{host}: its init is {facts.init}, not systemd; use a full server or virtual machine"
        )


def _clock(host: str, facts: HostFacts, now: datetime) -> Iterator[PreflightFinding]:
    skew = facts.epoch - int(now.astimezone(UTC).timestamp())
    if abs(skew) > MOST_CLOCK_SKEW_S:
        yield PreflightFinding(
            f"{host}: its clock is {abs(skew)} s {'fast' if skew > 0 else 'slow'}, so that certificates and "
            "signatures would be invalid; check `timedatectl`"
        )


def _disks(
    inventory: Inventory, host: str, facts: HostFacts, capacity: Capacity
) -> Iterator[PreflightFinding]:
    """Yield a finding when a file system is too small; an unmounted data disk counts as empty."""
    wanted: dict[str, list[tuple[str, int]]] = {}
    for item in capacity.placed:
        space = facts.file_systems.get(item.need.path)
        waits = item.on_data_disk and _same(space, facts.file_systems.get(SYSTEM))
        missing = _missing_mb(item.component, item.need.path, item.need.disk >> 20, facts)
        if missing and space:
            wanted.setdefault("the data disk" if waits else space.device, []).append(
                (item.need.what, missing)
            )
    free = {space.device: space.free_mb for space in facts.file_systems.values()}
    state = facts.file_systems.get(STATE)
    if state:
        wanted.setdefault(state.device, []).append(("state and journal of runs", RESERVE_MB))
    free["the data disk"] = facts.data_disk_mb
    for device, parts in wanted.items():
        needed = sum(size for _, size in parts)
        unknown = device == "the data disk" and not facts.data_disk_mb
        if needed > free.get(device, 0) and not unknown:
            has = free.get(device, 0)
            sum_of_parts = " + ".join(f"{what} {size} MB" for what, size in parts)
            yield PreflightFinding(
                f"{host}: not enough free space on {device}: {has} MB free, {needed} MB needed "
                f"({sum_of_parts}); free some (`df -h`, `journalctl --vacuum-size=200M`) or attach a larger "
                "one",
                capacity=True,
            )


def _missing_mb(component: str, path: str, needed: int, facts: HostFacts) -> int:
    """Return the MB that a component still needs at a path: programs are installed or not, data grows."""
    if path == SYSTEM or path.startswith(("/opt/", "/usr/")):
        return 0 if component in facts.components else needed
    space = facts.file_systems.get(path)
    return max(0, needed - (space.used_mb if space else 0))


def _same(one: FileSystem | None, other: FileSystem | None) -> bool:
    return one is not None and other is not None and one.device == other.device


def _ports(inventory: Inventory, host: str, facts: HostFacts) -> Iterator[PreflightFinding]:
    """Yield a finding for each port of a component that another program uses."""
    for component in COMPONENTS:
        names = ("clawd-", "docker/clawd-", component.name, *UNITS.get(component.name, ()))
        for port in component.ports_for(inventory, host):
            held = facts.listeners.get(port)
            if held is not None and not held.unit.startswith(names):
                yield PreflightFinding(
                    f"{host}: port {port}, which {component.name} needs, is used by {_who(held)}; "
                    f"stop that program (`ss -ltnp sport = :{port}`), or choose another port"
                )


def _who(held: PortListener) -> str:
    program = held.program or "an unknown program"
    return f"{program} ({held.unit})" if held.unit else program


def _mirrors(host: str, facts: HostFacts) -> Iterator[PreflightFinding]:
    silent = sorted(where for where, answers in facts.mirrors.items() if not answers)
    if not silent:
        return
    all_of_them = len(silent) == len(facts.mirrors)
    yield PreflightFinding(
        f"{host}: it cannot reach {', '.join(silent)} of its package sources; check its network, its proxy "
        "(`apt-config dump`) and /etc/apt, or connect through this machine (`internet: false`)",
        refused=all_of_them and not facts.installed,
    )


def _smallness(
    inventory: Inventory, host: str, facts: HostFacts, capacity: Capacity
) -> Iterator[PreflightFinding]:
    """Yield a warning for each resource below the recommended minimum."""
    system = facts.file_systems.get(SYSTEM)
    less: Sequence[tuple[bool, str]] = (
        (facts.cores < LEAST_CORES, f"{facts.cores} core; at least {LEAST_CORES} are recommended"),
        (
            facts.memory_mb < LEAST_MEMORY_MB,
            f"{facts.memory_mb} MB of memory; at least 4 GB are recommended",
        ),
        (
            system is not None and system.size_mb < LEAST_SYSTEM_DISK_MB,
            f"a system disk of {system.size_mb if system else 0} MB; at least 30 GB are recommended",
        ),
        (_data_disk_is_small(inventory, facts, capacity), "a data disk of less than the recommended 50 GB"),
    )
    for is_less, what in less:
        if is_less:
            yield PreflightFinding(f"{host}: it has {what}", refused=False)
    declared = inventory.hosts[host]
    if declared.cores and facts.cores < declared.cores:
        yield PreflightFinding(
            f"{host}: it has {facts.cores} cores, but {declared.cores} are declared", refused=False
        )


def _refusals(inventory: Inventory, host: str, facts: HostFacts) -> Iterator[PreflightFinding]:
    if facts.refused_settings and inventory.hardening.enabled:
        names = ", ".join(facts.refused_settings)
        yield PreflightFinding(
            f"{host}: it refuses the kernel settings {names} and keeps its own values", refused=False
        )


def _data_disk_is_small(inventory: Inventory, facts: HostFacts, capacity: Capacity) -> bool:
    if inventory.hosts[capacity.host].disk is None:
        return False
    root = facts.file_systems.get(SYSTEM)
    mounted = _largest(
        space
        for item in capacity.placed
        if item.on_data_disk and (space := facts.file_systems.get(item.need.path)) and not _same(space, root)
    )
    return 0 < (mounted or facts.data_disk_mb) < LEAST_DATA_DISK_MB


def _largest(spaces: Iterable[FileSystem]) -> int:
    return max((space.size_mb for space in spaces), default=0)


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
