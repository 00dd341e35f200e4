"""Selection of what each host needs from the laptop: the release, the model, the state folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from deploys.artifacts import NO_ROTATION, ModelFile, ReleaseArchive, Rotation, Supplies
from deploys.nvidia.choice import choose
from deploys.nvidia.gpus import GpuMachine, GpuMachineFact, parse
from deploys.nvidia.settings import NvidiaSettings, repository_uri
from deploys.tls.authority import unencrypted_key
from deploys.topology.addresses import project_names
from deploys.topology.engines import further_models, local_model
from inventory.errors import UNREADABLE, ArtifactError, HostError
from inventory.load import LoadedInventory
from inventory.model import Inventory
from inventory.state import keep_out_of_git
from provision.artifacts.engine import variants
from provision.artifacts.engine.builders import SshBuilder
from provision.artifacts.engine.wheel import BuildHosts, NvidiaRepository, engine_wheels
from provision.artifacts.host_kind import PROBE, HostKind
from provision.artifacts.model import model_file
from provision.artifacts.release import release_for
from provision.assignment import Assignment
from provision.connection.session import Session
from provision.local.cache import Cache
from provision.progress import RunProgress
from provision.sandbox.claims import host_keys_on_this_machine

NEED_RELEASE = {"runtime"}
NEED_MODEL = {"model", "runtime"}


def exposed(inventory: Inventory) -> Iterator[str]:
    """Yield warnings for what is not enforced while the firewall is off."""
    if inventory.firewall.enabled:
        return
    yield "`firewall.enabled` is false: every network may use SSH, and ports of other programs are open"
    if fronts := inventory.with_role("nginx"):
        yield (
            f"`firewall.enabled` is false: a client may take every connection of {', '.join(fronts)}, "
            f"because the limit of {inventory.nginx.connections} a client is the firewall's"
        )


def gather(
    loaded: LoadedInventory,
    session: Session,
    assignments: Mapping[str, Sequence[Assignment]],
    progress: RunProgress,
    *,
    may_build: bool,
    rotation: Rotation = NO_ROTATION,
) -> dict[str, Supplies]:
    """Return the supplies of every host of `assignments`.

    A release is built once for each kind of host; the digest of a model is computed once.

    Raises:
        ArtifactError: when an artifact cannot be built, or not for the kind of a host.
        HostError: when the kind of a host cannot be determined.

    """
    keep_out_of_git(loaded.state_folder)
    plain = unencrypted_key(loaded.state_folder) if loaded.inventory.tls.mode == "own-ca" else None
    if plain is not None:
        progress.warn(
            f"the key of the project's certificate authority, {plain}, is not encrypted: create an age key "
            "with `clawd-provision inventory keygen`, then the next `up` encrypts it"
        )
    for doubt in loaded.warnings:
        progress.warn(f"{doubt.place}: {doubt.problem}; {doubt.advice}")
    for warning in exposed(loaded.inventory):
        progress.warn(warning)
    needs = {
        host: {item.component.name for item in assigned if item.settings is not None}
        for host, assigned in assignments.items()
    }
    running = [host for host, names in needs.items() if names & NEED_RELEASE]
    drivers = {
        host: item.settings
        for host in running
        for item in assignments[host]
        if isinstance(item.settings, NvidiaSettings) and item.settings.engine
    }
    built = _releases(session, running, drivers, progress, may_build=may_build)
    declared = local_model(loaded.inventory)
    model: ModelFile | None = None
    further: dict[str, ModelFile] = {}
    if declared is not None and any(names & NEED_MODEL for names in needs.values()):
        model = model_file(declared, progress.detail)
        others = {
            name: one for host in assignments for name, one in further_models(loaded.inventory, host).items()
        }
        further = {name: model_file(one, progress.detail) for name, one in others.items()}
    return {
        host: Supplies(
            state_folder=loaded.state_folder,
            release=built.get(host),
            model=model if needs[host] & NEED_MODEL else None,
            further_models=further if needs[host] & NEED_MODEL else {},
            template_overrides=override_folder(loaded),
            names=project_names(loaded.inventory),
            rotation=rotation,
        )
        for host in assignments
    }


def _releases(
    session: Session,
    hosts: Sequence[str],
    drivers: Mapping[str, NvidiaSettings],
    progress: RunProgress,
    *,
    may_build: bool,
) -> dict[str, ReleaseArchive]:
    repositories: dict[str, NvidiaRepository] = {}
    on_this_machine = host_keys_on_this_machine()
    this_processor = variants.of_this_machine()

    def kind_of(host: str) -> HostKind:
        done = session.run(host, PROBE, timeout=30)
        if not done.succeeded:
            raise HostError(
                f"{host}: cannot determine the kind of host: {done.stderr.strip()}", advice=UNREADABLE
            )
        kind = HostKind.from_probe(done.stdout, where=host)
        if session.links[host].host_key in on_this_machine:
            kind = replace(kind, cpu=this_processor)
        machine = _gpus(session, host, drivers[host]) if host in drivers else None
        if machine is None or not machine.gpus:
            return kind
        cuda = str(choose(host, machine, drivers[host]).cuda or "")
        repositories[host] = _repository(host, drivers[host], machine)
        return replace(kind, cuda=cuda)

    def builder_on(host: str) -> SshBuilder:
        if not may_build:
            raise ArtifactError(
                f"the engine for {host} is not built yet, and only the host itself can build it",
                advice="run `clawd-provision up` once to build it there, which takes some minutes",
            )
        return SshBuilder(session.links[host])

    if not hosts:
        return {}
    cache = Cache.default()
    kinds = session.everywhere(kind_of, hosts)
    wanted = set(kinds.values())
    engines = engine_wheels(
        wanted,
        cache,
        BuildHosts(hosts=kinds, connect=builder_on, repositories=repositories),
        progress=progress.detail,
    )
    built = {kind: release_for(kind, engines[kind], cache, progress=progress.detail) for kind in wanted}
    return {host: built[kind].archive for host, kind in kinds.items()}


def _gpus(session: Session, host: str, settings: NvidiaSettings) -> GpuMachine:
    done = session.run(host, GpuMachineFact().command(settings.root), timeout=30)
    if not done.succeeded:
        raise HostError(f"{host}: cannot determine its GPUs: {done.stderr.strip()}", advice=UNREADABLE)
    return parse(done.stdout.splitlines())


def _repository(host: str, settings: NvidiaSettings, machine: GpuMachine) -> NvidiaRepository:
    if settings.key is None:
        raise ArtifactError(
            f"{host}: CUDA's packages cannot be verified: `nvidia.key` is missing",
            advice="download the repository's public key, and write its path as `nvidia.key`",
        )
    return NvidiaRepository(repository_uri(settings, machine), settings.key)


def override_folder(loaded: LoadedInventory) -> Path | None:
    """Return the folder of the user's own templates, `templates/` next to `inventory/`; `None` without."""
    folder = loaded.folder.parent / "templates"
    return folder if folder.is_dir() else None
