from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path

import pytest

from inventory.errors import ArtifactError, HostError, ToolError
from provision.artifacts import lockfile
from provision.artifacts.engine import variants, wheel
from provision.artifacts.engine.recipe import KEY, SDIST, TOOLS
from provision.artifacts.engine.wheel import (
    BuildHosts,
    EngineWheel,
    NvidiaRepository,
    cached,
    engine_wheels,
    fetch_sdist,
)
from provision.artifacts.host_kind import HostKind
from provision.artifacts.lockfile import Locked
from provision.artifacts.runtime_source import RuntimeSource
from provision.local.cache import Cache

BOOKWORM = HostKind("x86_64", (3, 11), (2, 36))
TRIXIE = HostKind("x86_64", (3, 13), (2, 41))


class FakeHost:
    """A machine whose build writes `wheel`."""

    name, sudo, install_compiler = "old", False, True

    def __init__(self, wheel: Path, *, fails: bool = False) -> None:
        self.wheel, self.fails = wheel, fails
        self.put_there: list[str] = []
        self.scripts: list[str] = []
        self.folder: str | None = None

    def run(self, script: str) -> Generator[str, None, None]:
        if "mktemp" in script:
            self.folder = "/var/tmp/clawd-engine.abc123"
            yield "Welcome!"
            yield self.folder
        elif script.startswith("rm -rf"):
            assert script == f"rm -rf {self.folder}"
            self.folder = None
        else:
            self.scripts.append(script)
            yield "[1/2] a"
            if self.fails:
                raise HostError("old: the build failed")
            yield "[2/2] b"
            yield f"wheel {self.wheel.name}"

    def put(self, source: Path, target: str) -> None:
        assert source.stat().st_size
        self.put_there.append(target.removeprefix(f"{self.folder}/"))

    def get(self, source: str, target: Path) -> None:
        assert source == f"{self.folder}/out/{self.wheel.name}"
        shutil.copy(self.wheel, target)


@pytest.fixture
def locked(
    source: RuntimeSource,
    engine_sdist: Callable[[Path], Path],
    only_local_index: Path,
    make_wheel: Callable[..., Path],
    lock_line: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Locked:
    """Our own engine and build tools, in an index of our own."""
    digest = hashlib.sha256(engine_sdist(only_local_index).read_bytes()).hexdigest()
    lock = source.folder / "requirements.lock"
    lock.write_text(lock.read_text().replace("0" * 64, digest))
    tools = tmp_path / "engine-build.lock"
    tools.write_text(lock_line(make_wheel("ninja"), name="ninja"))
    monkeypatch.setattr(wheel, "BUILD_LOCK", tools)
    return lockfile.named(source.locked, "llama-cpp-python")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine is a Mac."""
    monkeypatch.setattr(HostKind, "of_this_machine", classmethod(lambda cls: None))


def test_source_is_downloaded_without_running_its_code(locked: Locked, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    sdist = fetch_sdist(locked, work)
    assert sdist.name == "llama_cpp_python-9.9.tar.gz"
    assert hashlib.sha256(sdist.read_bytes()).hexdigest() in locked.hashes


def test_changed_source_is_refused(locked: Locked, only_local_index: Path, tmp_path: Path) -> None:
    (only_local_index / "llama_cpp_python-9.9.tar.gz").open("ab").write(b"evil")
    work = tmp_path / "work"
    work.mkdir()
    with pytest.raises(ArtifactError, match="not the locked one"):
        fetch_sdist(locked, work)


@pytest.mark.usefixtures("elsewhere")
def test_wheel_is_built_once_on_the_oldest_host_for_all(
    locked: Locked, source: RuntimeSource, engine: EngineWheel, cache: Cache
) -> None:
    machines: list[FakeHost] = []

    def connect(name: str) -> FakeHost:
        assert name == "old"
        machines.append(FakeHost(engine.path))
        return machines[-1]

    fractions: list[float | None] = []
    hosts = {"new": TRIXIE, "old": BOOKWORM}
    for _ in range(2):
        found = engine_wheels(
            [BOOKWORM, TRIXIE],
            cache,
            BuildHosts(hosts=hosts, connect=connect),
            source=source,
            progress=lambda message, fraction=None: fractions.append(fraction),
        )
        assert found[BOOKWORM] == found[TRIXIE]
        assert found[TRIXIE].path.read_bytes() == engine.path.read_bytes()
        assert found[TRIXIE].built_on == BOOKWORM
    (machine,) = machines
    assert machine.put_there == [SDIST, TOOLS]
    assert machine.folder is None
    assert [fraction for fraction in fractions if fraction][-2:] == [0.5, 1.0]


@pytest.mark.usefixtures("elsewhere")
def test_failed_build_leaves_no_folder_and_no_cache_entry(
    locked: Locked, source: RuntimeSource, engine: EngineWheel, cache: Cache
) -> None:
    machine = FakeHost(engine.path, fails=True)
    with pytest.raises(HostError):
        engine_wheels(
            [BOOKWORM], cache, BuildHosts(hosts={"old": BOOKWORM}, connect=lambda _: machine), source=source
        )
    assert machine.folder is None
    assert cached(locked, cache) == []
    assert list((cache.root / "partial").iterdir()) == []


@pytest.mark.usefixtures("elsewhere")
def test_wheel_without_libllama_is_refused(
    locked: Locked, source: RuntimeSource, make_wheel: Callable[..., Path], cache: Cache, tmp_path: Path
) -> None:
    wheel = make_wheel("llama-cpp-python", "9.9", "py3-none-linux_x86_64", folder=tmp_path / "w")
    with pytest.raises(ArtifactError, match="without libllama"):
        engine_wheels(
            [BOOKWORM],
            cache,
            BuildHosts(hosts={"old": BOOKWORM}, connect=lambda _: FakeHost(wheel)),
            source=source,
        )
    assert cached(locked, cache) == []


def test_damaged_cache_entry_is_ignored(locked: Locked, engine: EngineWheel, cache: Cache) -> None:
    made = wheel.publish(locked, BOOKWORM, engine.path, cache)
    assert cached(locked, cache) == [made]
    made.path.write_bytes(made.path.read_bytes()[:-1] + b"x")
    assert cached(locked, cache) == []


def test_changed_recipe_invalidates_cached_wheels(
    locked: Locked, engine: EngineWheel, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel.publish(locked, BOOKWORM, engine.path, cache)
    monkeypatch.setattr(
        "provision.artifacts.engine.recipe.recipe_text", lambda cuda=None, cpu="": "other flags"
    )
    assert cached(locked, cache) == []


HERE = replace(BOOKWORM, cpu="zen4")


@pytest.fixture
def for_zen4(make_wheel: Callable[..., Path], tmp_path: Path) -> Path:
    libraries = ("llama_cpp/lib/libllama.so", "bin/libggml-cpu-x64.so", "bin/libggml-cpu-zen4.so")
    files = dict.fromkeys(libraries, b"\x7fELF")
    return make_wheel("llama-cpp-python", "9.9", "py3-none-linux_x86_64", files, folder=tmp_path / "zen4")


@pytest.mark.usefixtures("elsewhere")
def test_an_engine_for_one_processor_is_kept_apart_from_the_one_for_all(
    locked: Locked, source: RuntimeSource, engine: EngineWheel, for_zen4: Path, cache: Cache
) -> None:
    machine = FakeHost(for_zen4)
    here = engine_wheels(
        [HERE], cache, BuildHosts(hosts={"old": HERE}, connect=lambda _: machine), source=source
    )[HERE]
    assert here.built_on == HERE
    assert "cpu-zen4" in here.path.parent.name
    assert "variants='x64|zen4'" in machine.scripts[-1]
    assert cached(locked, cache) == []
    assert cached(locked, cache, cpu="haswell") == []
    assert cached(locked, cache, cpu="zen4") == [here]
    # A host elsewhere gets one with all variants, which then serves hosts on this machine as well.
    machine = FakeHost(engine.path)
    hosts = {"old": BOOKWORM}
    found = engine_wheels(
        [BOOKWORM], cache, BuildHosts(hosts=hosts, connect=lambda _: machine), source=source
    )
    assert found[BOOKWORM].built_on == BOOKWORM
    assert "zen4" not in machine.scripts[-1]
    assert found[BOOKWORM].path.read_bytes() == engine.path.read_bytes()
    assert engine_wheels([HERE], cache, source=source)[HERE] == found[BOOKWORM]


def test_a_wheel_with_fewer_variants_than_its_kind_needs_is_refused(
    locked: Locked, for_zen4: Path, cache: Cache
) -> None:
    with pytest.raises(ArtifactError, match="without libggml-cpu-haswell"):
        wheel.publish(locked, replace(HERE, cpu="haswell"), for_zen4, cache)
    with pytest.raises(ArtifactError, match="without libggml-cpu-sse42"):
        wheel.publish(locked, BOOKWORM, for_zen4, cache)
    assert cached(locked, cache) == []
    assert wheel.publish(locked, HERE, for_zen4, cache).built_on == HERE


@pytest.mark.parametrize(
    ("seconds", "fraction", "left"),
    [
        (4.2, 0.02, " (4 s)"),
        (30, 0.2, " (about 2 min left)"),
        (100, 0.6, " (about 67 s left)"),
        (100, 1.0, " (about 1 s left)"),
    ],
)
def test_a_build_reports_how_much_is_left(seconds: float, fraction: float, left: str) -> None:
    assert wheel._left(seconds, fraction) == left


GPU = replace(BOOKWORM, cuda="cuda12.9-80.86.89.90")


@pytest.fixture
def for_gpus(make_wheel: Callable[..., Path], engine: EngineWheel, tmp_path: Path) -> Path:
    names = ["cuda", *(f"cpu-{name}" for name in variants.built_for("x86_64", variants.ALL))]
    files = {f"bin/libggml-{name}.so": b"\x7fELF" for name in names}
    files["llama_cpp/lib/libllama.so"] = b"\x7fELF"
    return make_wheel("llama-cpp-python", "9.9", "py3-none-linux_x86_64", files, folder=tmp_path / "gpu")


@pytest.mark.usefixtures("elsewhere")
def test_host_with_a_gpu_builds_its_own_wheel_and_others_use_the_cpu_wheel(
    locked: Locked, source: RuntimeSource, engine: EngineWheel, for_gpus: Path, cache: Cache, tmp_path: Path
) -> None:
    key = tmp_path / "nvidia.asc"
    key.write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n")
    uri = "https://developer.example/repos/debian12/x86_64"
    machines = {"plain": FakeHost(engine.path), "gpu": FakeHost(for_gpus)}
    for _ in range(2):
        found = engine_wheels(
            [BOOKWORM, GPU],
            cache,
            BuildHosts(
                hosts={"plain": BOOKWORM, "gpu": GPU},
                connect=machines.__getitem__,
                repositories={"gpu": NvidiaRepository(uri, key)},
            ),
            source=source,
        )
        assert found[GPU].path.read_bytes() == for_gpus.read_bytes()
        assert found[BOOKWORM].path.read_bytes() == engine.path.read_bytes()
        assert "cuda12.9-80.86.89.90" in found[GPU].path.parent.name
        assert "cuda" not in found[BOOKWORM].path.parent.name
    assert machines["gpu"].put_there == [SDIST, TOOLS, KEY]
    assert machines["plain"].put_there == [SDIST, TOOLS]
    assert cached(locked, cache, GPU.cuda) == [found[GPU]]


@pytest.mark.usefixtures("elsewhere")
def test_wheel_for_gpus_without_the_cuda_library_is_refused(
    locked: Locked, source: RuntimeSource, engine: EngineWheel, cache: Cache, tmp_path: Path
) -> None:
    """CMake does without CUDA where a project lets it."""
    key = tmp_path / "nvidia.gpg"
    key.write_bytes(b"\x99")
    with pytest.raises(ArtifactError, match="without libggml-cuda"):
        engine_wheels(
            [GPU],
            cache,
            BuildHosts(
                hosts={"gpu": GPU},
                connect=lambda _: FakeHost(engine.path),
                repositories={"gpu": NvidiaRepository("https://developer.example", key)},
            ),
            source=source,
        )
    assert cached(locked, cache, GPU.cuda) == []


@pytest.mark.usefixtures("elsewhere")
def test_build_for_gpus_without_a_repository_is_refused(
    locked: Locked, source: RuntimeSource, for_gpus: Path, cache: Cache
) -> None:
    with pytest.raises(ArtifactError, match=r"no repository with the compiler of cuda12\.9"):
        engine_wheels(
            [GPU], cache, BuildHosts(hosts={"gpu": GPU}, connect=lambda _: FakeHost(for_gpus)), source=source
        )


def test_missing_compiler_is_reported_with_packages_to_install(
    locked: Locked, source: RuntimeSource, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostKind, "of_this_machine", classmethod(lambda cls: BOOKWORM))
    monkeypatch.setattr("provision.artifacts.engine.wheel.shutil.which", lambda name: None)
    with pytest.raises(ToolError, match=r"apt-get install .*g\+\+"):
        engine_wheels([BOOKWORM], cache, source=source)
