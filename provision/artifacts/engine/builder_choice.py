"""Choice of the machines that build the engine. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from inventory.errors import ArtifactError
from provision.artifacts.host_kind import HostKind


@dataclass(frozen=True, slots=True)
class BuildMachine:
    """A machine of `kind` that builds: a host by name, or this machine (`None`)."""

    kind: HostKind
    host: str | None = None


@dataclass(frozen=True, slots=True)
class BuilderChoice:
    """For each kind of host the kind of machine whose build it gets, and the builds to run first."""

    built_on: Mapping[HostKind, HostKind]
    builds: tuple[BuildMachine, ...]


def choose_builders(
    kinds: Collection[HostKind],
    this_machine: HostKind | None,
    hosts: Mapping[str, HostKind],
    there: Collection[HostKind] = (),
    compilers: Collection[str] = (),
) -> BuilderChoice:
    """Choose builders so that each architecture, and each CUDA of it, is built at most once.

    A build runs on machines of its architecture whose C library is not older; of the builds that are `there`
    already, the newest is used, if possible one with all variants for processors. For the remaining kinds
    this machine builds if its C library is not too new for any of them, else the host with the oldest one;
    with one variant if all of them need the same, else with all. Builds for GPUs run on a host with such
    GPUs, or on this machine if it has a compiler for that CUDA (`compilers`). Raises `ArtifactError` when no
    machine can build.
    """
    built_on: dict[HostKind, HostKind] = {}
    builds: list[BuildMachine] = []
    unserved: dict[tuple[str, str], list[HostKind]] = {}
    for kind in sorted(set(kinds)):
        usable = [other for other in there if kind.runs_builds_of(other)]
        if usable:
            built_on[kind] = max(usable, key=lambda other: (not other.cpu, other.libc_version))
        else:
            unserved.setdefault((kind.architecture, kind.cuda), []).append(kind)
    for (architecture, cuda), waiting in unserved.items():
        cpu = waiting[0].cpu if len({kind.cpu for kind in waiting}) == 1 else ""
        able = this_machine and (not cuda or cuda in compilers)
        here = replace(this_machine, cuda=cuda, cpu=cpu) if able and this_machine else None
        others = {name: replace(kind, cpu=cpu) for name, kind in hosts.items()}
        place = _place(architecture, waiting, here, others)
        builds.append(place)
        built_on |= dict.fromkeys(waiting, place.kind)
    return BuilderChoice(built_on, tuple(builds))


def _place(
    architecture: str,
    waiting: Collection[HostKind],
    this_machine: HostKind | None,
    hosts: Mapping[str, HostKind],
) -> BuildMachine:
    def serves_all(kind: HostKind) -> bool:
        return all(other.runs_builds_of(kind) for other in waiting)

    if this_machine and serves_all(this_machine):
        return BuildMachine(this_machine)
    able = [(kind.libc_version, name) for name, kind in hosts.items() if serves_all(kind)]
    if not able:
        oldest = min(kind.libc_version for kind in waiting)
        raise ArtifactError(
            f"no machine can build the engine for {architecture} with glibc {oldest[0]}.{oldest[1]}",
            advice="include a host of that kind in the run",
        )
    name = min(able)[1]
    return BuildMachine(hosts[name], name)
