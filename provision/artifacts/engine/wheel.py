"""The wheel of llama-cpp-python, which the index lacks: built once for an architecture and C library."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from deploys.nvidia.cuda import Cuda
from inventory.errors import ArtifactError, ToolError
from provision.artifacts import archive, lockfile, pip, wheel_file
from provision.artifacts.engine import recipe, variants
from provision.artifacts.engine.builder_choice import BuilderChoice, BuildMachine, choose_builders
from provision.artifacts.engine.builders import Builder, LocalBuilder
from provision.artifacts.engine.recipe import KEY, OUT, SDIST, TOOLS, Recipe
from provision.artifacts.host_kind import HostKind
from provision.artifacts.lockfile import Locked
from provision.artifacts.runtime_source import ENGINE, RuntimeSource
from provision.artifacts.wheels import wheels_for
from provision.local.cache import Cache, digest_of, sha256_of
from provision.local.report_progress import ReportProgress, silent

BUILD_LOCK = Path(__file__).with_name("engine-build.lock")
_RECORD = "made.json"
_ENOUGH_TO_ESTIMATE = 0.1
"""The part of a build after which its duration can be estimated."""
_TOOL_FOLDERS = {"lib": "tools", "scripts": "tools/bin"}
"""Folders of the tools for a build, by the scheme of their files in wheels."""


@dataclass(frozen=True, slots=True)
class NvidiaRepository:
    """The repository of a host's NVIDIA packages, and the public key that verifies them."""

    uri: str
    key: Path


@dataclass(frozen=True, slots=True)
class BuildHosts:
    """Hosts that may build the engine, over `connect(name)`."""

    hosts: Mapping[str, HostKind] = field(default_factory=dict)
    connect: Callable[[str], Builder] | None = None
    repositories: Mapping[str, NvidiaRepository] = field(default_factory=dict)
    """Repositories from which hosts with GPUs get the CUDA compiler for the time of the build."""


@dataclass(frozen=True, slots=True)
class EngineWheel:
    """A built wheel; `built_on` is the kind of machine it was built on."""

    path: Path
    sha256: str
    built_on: HostKind


def engine_wheels(
    kinds: Collection[HostKind],
    cache: Cache,
    machines: BuildHosts | None = None,
    *,
    source: RuntimeSource | None = None,
    progress: ReportProgress = silent,
) -> dict[HostKind, EngineWheel]:
    """Return the engine for each of `kinds`; build those that are not in the cache.

    A build runs on this machine or on one of `machines`. Raises `ToolError` when only this machine could
    build and lacks a compiler, `ArtifactError` or `HostError` when a build fails.
    """
    machines = machines or BuildHosts()
    locked = lockfile.named((source or RuntimeSource.of_this_program()).locked, ENGINE)
    this_machine = _this_machine(machines.hosts)
    wanted = {kind.cuda for kind in kinds}
    usable = {(kind.cuda, cpu) for kind in kinds for cpu in (kind.cpu, variants.ALL)}
    compilers = {cuda for cuda in wanted if cuda and Path(Cuda.parse(cuda).folder, "bin/nvcc").exists()}

    def choose() -> tuple[dict[HostKind, EngineWheel], BuilderChoice]:
        there = {wheel.built_on: wheel for cuda, cpu in usable for wheel in cached(locked, cache, cuda, cpu)}
        return there, choose_builders(kinds, this_machine, machines.hosts, there, compilers)

    there, choice = choose()
    if choice.builds:
        with cache.lock("engine", progress):
            there, choice = choose()
            for place in choice.builds:
                builder = _builder(place, machines.connect)
                there[place.kind] = build(
                    locked,
                    place.kind,
                    builder,
                    cache,
                    repository=machines.repositories.get(place.host or ""),
                    progress=progress,
                )
    found = {kind: there[built_on] for kind, built_on in choice.built_on.items()}
    for wheel in found.values():
        cache.used(wheel.path.parent)
    return found


def cached(locked: Locked, cache: Cache, cuda: str = "", cpu: str = variants.ALL) -> list[EngineWheel]:
    """Return the intact wheels in the cache of this version and recipe, built for `cuda` and `cpu`."""
    found = []
    for record in sorted((cache.root / "engine").glob(f"{_key(locked, cuda, cpu)}-*/{_RECORD}")):
        try:
            made = json.loads(record.read_text(encoding="utf-8"))
            wheel = EngineWheel(
                record.with_name(made["wheel"]), made["sha256"], HostKind.from_json(made["built_on"])
            )
            whole = sha256_of(wheel.path) == wheel.sha256
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if whole:
            found.append(wheel)
    return found


def build(
    locked: Locked,
    kind: HostKind,
    builder: Builder,
    cache: Cache,
    *,
    repository: NvidiaRepository | None = None,
    progress: ReportProgress = silent,
) -> EngineWheel:
    """Build the wheel on `builder`, a machine of `kind`, and store it in the cache.

    A build with all variants takes 5 to 10 minutes on 2 cores, for one processor a third of that; for GPUs
    many times that (not measured). Files copied to the machine are removed afterwards.
    """
    with cache.workspace() as work:
        sdist = fetch_sdist(locked, work, progress)
        tools = _tools(kind, cache, work, progress)
        cuda = Cuda.parse(kind.cuda) if kind.cuda else None
        if cuda and repository is None and builder.install_compiler:
            raise ArtifactError(
                f"{builder.name}: there is no repository with the compiler of {cuda}",
                advice="declare `nvidia.key`, the public key of NVIDIA's repository",
            )
        wheel = _Build(builder, kind, repository, progress).run(sdist, tools, work)
        return publish(locked, kind, wheel, cache)


def fetch_sdist(locked: Locked, folder: Path, progress: ReportProgress = silent) -> Path:
    """Download the source archive with the locked digest and return its path.

    pip runs the build system of a source for metadata even when it only downloads. That would download and
    run cmake on the laptop; a stand-in answers with the name and version from the lock file instead.
    """
    stand_in = folder / "stand-in" / "scikit_build_core"
    stand_in.mkdir(parents=True)
    (stand_in / "__init__.py").touch()
    (stand_in / "build.py").write_text(
        _METADATA_STAND_IN.format(name=locked.name, version=locked.version), encoding="utf-8"
    )
    options = ("--no-build-isolation", "--no-binary", locked.name)
    target = folder / "sdist"
    environment = {"PYTHONPATH": str(stand_in.parent)}
    progress(f"downloading the source of {locked.name} {locked.version}")
    pip.download([locked], target, options, what="the engine's source", environment=environment)
    shutil.rmtree(stand_in.parent)
    files = list(target.iterdir())
    if len(files) != 1 or sha256_of(files[0]) not in locked.hashes:
        raise ArtifactError(
            f"{locked.name}: pip downloaded another file than the locked one",
            advice="use another mirror (PIP_INDEX_URL)",
        )
    return files[0]


_METADATA_STAND_IN = """\
import pathlib

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder, "{name}-{version}.dist-info".replace("{name}", "{name}".replace("-", "_")))
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
    return info.name
"""


def _tools(kind: HostKind, cache: Cache, work: Path, progress: ReportProgress) -> Path:
    """Write cmake, ninja and scikit-build-core for the building machine into one archive; return its path."""
    entries = lockfile.for_kind(lockfile.read(BUILD_LOCK), kind)
    target = work / TOOLS
    with wheel_file.members(wheels_for(entries, kind, cache, progress)) as members:
        archive.write(
            target,
            (
                member.entry(_TOOL_FOLDERS[member.scheme])
                for member in members
                if member.scheme in _TOOL_FOLDERS
            ),
        )
    return target


@dataclass(frozen=True, slots=True)
class _Build:
    """One build on a machine of `kind`, in a folder that is removed afterwards."""

    builder: Builder
    kind: HostKind
    repository: NvidiaRepository | None
    progress: ReportProgress

    def run(self, sdist: Path, tools: Path, work: Path) -> Path:
        """Build the wheel from these archives, fetch it into `work` and return its path."""
        self.progress(f"building the engine on {self.builder.name}", 0.0)
        folder = self._new_folder()
        try:
            self.builder.put(sdist, f"{folder}/{SDIST}")
            self.builder.put(tools, f"{folder}/{TOOLS}")
            name = self._name_of_wheel(self._recipe(folder))
            self.builder.get(f"{folder}/{OUT}/{name}", work / name)
            return work / name
        finally:
            # If the connection was lost, the next build on the machine removes the folder.
            with suppress(Exception):
                list(self.builder.run(f"rm -rf {folder}"))

    def _new_folder(self) -> str:
        answer = [line.strip() for line in self.builder.run(recipe.prepare_script())]
        folder = next(filter(recipe.is_build_folder, answer), "")
        if not folder:
            printed = " ".join(answer)
            raise ArtifactError(
                f"{self.builder.name}: cannot create a build folder in /var/tmp: {printed}",
                advice="free disk space there, then run the command again",
            )
        return folder

    def _recipe(self, folder: str) -> Recipe:
        """Return the recipe of this build, with the repository's key copied to the machine."""
        cuda = Cuda.parse(self.kind.cuda) if self.kind.cuda else None
        chosen = Recipe(
            folder,
            variants=variants.built_for(self.kind.architecture, self.kind.cpu) if self.kind.cpu else (),
            sudo=self.builder.sudo,
            install_compiler=self.builder.install_compiler,
            cuda=cuda,
        )
        if cuda is None or self.repository is None:
            return chosen
        self.builder.put(self.repository.key, f"{folder}/{KEY}")
        armored = self.repository.key.read_bytes().lstrip().startswith(b"-----BEGIN")
        return replace(chosen, repository=self.repository.uri, armored=armored)

    def _name_of_wheel(self, chosen: Recipe) -> str:
        """Run the build, report its progress, and return the name of the wheel."""
        started = time.monotonic()
        name = ""
        with closing(self.builder.run(recipe.build_script(chosen))) as output:
            for line in output:
                if (fraction := recipe.step_of(line)) is not None:
                    left = _left(time.monotonic() - started, fraction)
                    self.progress(f"building the engine on {self.builder.name}{left}", fraction)
                elif line.startswith("wheel "):
                    name = line.removeprefix("wheel ").strip()
        if not name.endswith(".whl") or "/" in name:
            raise ArtifactError(f"{self.builder.name}: the build ended without a wheel")
        return name


def _left(seconds: float, fraction: float) -> str:
    """Return how much of a build is left, as far as its first steps allow to say."""
    if fraction < _ENOUGH_TO_ESTIMATE:
        return f" ({seconds:.0f} s)"
    left = seconds / fraction - seconds
    return f" (about {left / 60:.0f} min left)" if left >= 90 else f" (about {max(left, 1):.0f} s left)"


def publish(locked: Locked, kind: HostKind, wheel: Path, cache: Cache) -> EngineWheel:
    """Move a wheel that was built on a machine of `kind` into the cache.

    Raises `ArtifactError` for a wheel that lacks a library that hosts of its kind need.
    """
    with wheel_file.members([wheel]) as members:
        paths = {member.path for member in members}
    names = {PurePosixPath(path).name for path in paths}
    if "llama_cpp/lib/libllama.so" not in paths:
        raise ArtifactError(f"{wheel.name}: the build produced a wheel without libllama")
    if kind.cuda and "libggml-cuda.so" not in names:
        raise ArtifactError(f"{wheel.name}: the build for {kind.cuda} produced a wheel without libggml-cuda")
    for variant in variants.built_for(kind.architecture, kind.cpu):
        if f"libggml-cpu-{variant}.so" not in names:
            raise ArtifactError(f"{wheel.name}: the build produced a wheel without libggml-cpu-{variant}")
    digest = sha256_of(wheel)
    libc = f"{kind.libc}{kind.libc_version[0]}.{kind.libc_version[1]}"
    key = f"{_key(locked, kind.cuda, kind.cpu)}-{kind.architecture}-{libc}"
    record = {
        "wheel": wheel.name,
        "sha256": digest,
        "built_on": kind.to_json(),
    }
    with cache.making("engine", key) as entry:
        shutil.move(wheel, entry / wheel.name)
        (entry / _RECORD).write_text(json.dumps(record), encoding="utf-8")
    return EngineWheel(cache.entry("engine", key) / wheel.name, digest, kind)


def _key(locked: Locked, cuda: str, cpu: str) -> str:
    made_for = Cuda.parse(cuda) if cuda else None
    text = recipe.recipe_text(made_for, cpu)
    digest = digest_of(text, str(locked), BUILD_LOCK.read_text(encoding="utf-8"))
    return f"{locked.version}-{recipe.capabilities(made_for, cpu)}-{digest}"


def _this_machine(hosts: Mapping[str, HostKind]) -> HostKind | None:
    """Return the kind of this machine if it can build or there is no other builder; else `None`."""
    return HostKind.of_this_machine() if shutil.which("g++") or not hosts else None


def _builder(place: BuildMachine, connect: Callable[[str], Builder] | None) -> Builder:
    if place.host is None:
        if not shutil.which("g++"):
            raise ToolError(
                "cannot build the engine: this machine has no C++ compiler",
                advice="run `apt-get install --no-install-recommends g++`",
            )
        return LocalBuilder()
    if connect is None:
        raise ArtifactError(f"{place.host}: cannot build the engine there: the host is not connected")
    return connect(place.host)
