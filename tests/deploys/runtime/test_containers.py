"""Engine and bot in containers: their units, images by content, and what is done when."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deploys.artifacts import ModelFile, ReleaseArchive, Supplies
from deploys.model.space import RESERVE, Space, SpaceFact
from deploys.nvidia import gpus
from deploys.ops.accounts import GroupFact, UserFact
from deploys.ops.facts import OwnersFact, PathFact, PathState, UnitFact, UnitState
from deploys.ops.paths.files import rendered
from deploys.runtime.container import build_image, image
from deploys.runtime.container.image import BaseFact, ImageFact, ImagesFact, RuntimeImage
from deploys.runtime.deploy import IMAGE_RATIO, apply, remove
from deploys.runtime.further_engines import EngineNamesFact
from deploys.runtime.journal import NAMESPACE, MachineIdFact, StateFact
from deploys.runtime.prune import Entries, EntriesFact
from deploys.runtime.settings import LoginSettings, settings_for
from inventory.errors import CapacityError
from tests.deploys.golden import assert_golden
from tests.deploys.harness import Machine, Run
from tests.deploys.inventories import SECRETS, inventory
from tests.deploys.runtime.test_units import verified

GOLDEN = Path(__file__).parent / "golden" / "docker"
MODEL = ModelFile("smollm2-135m-q8_0", "ab" * 32, 1000, source=Path("m.gguf"))
RELEASE = ReleaseArchive(Path("release.tar.gz"), "ab" * 32, 1000, "cd" * 32, engine_digest="ef" * 8)
BASE = "libc6 2.36-9\npython3 3.11.2-1"
LIBRARIES = "/usr/local/cuda-12.9/targets/x86_64-linux/lib"
IMAGE = RuntimeImage(
    RELEASE, image._digest(BASE, image.program("build_image.py"), image.program("container_entrypoint.py"))
)
BARE: dict[Any, Any] = {
    StateFact: "stopped",
    MachineIdFact: "0" * 32,
    PathFact: PathState(),
    OwnersFact: {},
    UserFact: None,
    UnitFact: UnitState(),
    EntriesFact: Entries(),
    EngineNamesFact: (),
    SpaceFact: Space(free=RESERVE + IMAGE_RATIO * 1000, there=False, partial=0),
    BaseFact: BASE,
    ImageFact: False,
    ImagesFact: frozenset(),
    gpus.GpuMachineFact: gpus.GpuMachine(),
}


def plan(
    release: ReleaseArchive = RELEASE,
    facts: dict[Any, Any] | None = None,
    gpu: str = "none",
    **declared: Any,
) -> Run:
    whole = inventory(runtime={"run_with": "docker"}, **declared)
    hosts = {name: host.model_copy(update={"gpu": gpu}) for name, host in whole.hosts.items()}
    whole = whole.model_copy(update={"hosts": hosts})
    supplied = Supplies(Path("state"), release=release, model=MODEL)
    data = {"runtime": settings_for(whole, "bot1"), "supplies": supplied}
    return Machine(data, facts={**BARE, **(facts or {})}).run(apply, execute=False)


def written(run: Run, end: str) -> tuple[str, ...]:
    (change,) = (
        change for change in run.changes if change.path.startswith("/") and change.path.endswith(end)
    )
    return change.diff


CREDENTIALS = {name: f"/etc/clawd/secrets/{name}" for name in ("console-jwt-secret", "telegram-token")}


def unit(name: str, **values: Any) -> str:
    common = {"memory_max": "1G", "release": "95a1b73a985f4f14"}
    engine = {"model_name": "smollm2-135m-q8_0", "cuda": LIBRARIES}
    bot = {"with_engine": True, "credentials": CREDENTIALS, "journal": NAMESPACE}
    return rendered(f"runtime/docker/{name}", {**common, **engine, **bot, **values})


@pytest.mark.parametrize("name", ["clawd-engine.service", "clawd-bot.service"])
def test_container_units_equal_golden_files_and_systemd_accepts_them(name: str, tmp_path: Path) -> None:
    assert_golden(GOLDEN / name, unit(name))
    assert verified(tmp_path / name, unit(name)) == (0, "")


def test_containers_are_sandboxed_like_the_services() -> None:
    for name in ("clawd-engine.service", "clawd-bot.service"):
        text = unit(name)
        for option in ("--read-only", "--cap-drop ALL", "no-new-privileges", "--memory 1G --memory-swap 1G"):
            assert option in text
        assert not [word for word in ("--privileged", "--publish", "docker.sock") if word in text]
    assert "--network none" in unit("clawd-engine.service")
    assert "--gpus" not in unit("clawd-engine.service", cuda="")


def test_first_installation_runs_operations_in_order() -> None:
    run = plan()
    in_order = [
        "User clawd-bot",
        f"Image clawd-runtime:{IMAGE.id}",
        "Link /opt/clawd/current",
        "Service clawd-bot",
    ]
    places = [next(at for at, name in enumerate(run.names) if name.endswith(end)) for end in in_order]
    assert places == sorted(places)
    assert not [value for value in SECRETS.values() if value in repr(run.changes)]


def test_image_id_depends_on_release_base_and_python() -> None:
    def made(run: Run) -> str:
        (name,) = (name for name in run.names if "Image clawd-runtime:" in name)
        return name.rpartition(":")[2]

    other = replace(RELEASE, manifest_digest="12" * 32)
    patched = {BaseFact: BASE.replace("3.11.2-1", "3.11.2-2")}
    named = plan(docker={"base_image": "python:3.11-slim"})
    images = [made(run) for run in (plan(), plan(other), plan(facts=patched), named)]
    assert len(set(images)) == 4
    assert made(plan()) == images[0] == IMAGE.id


def test_release_that_changes_only_the_bot_does_not_change_the_engine() -> None:
    other = replace(RELEASE, manifest_digest="12" * 32)
    patched = {BaseFact: BASE.replace("3.11.2-1", "3.11.2-2")}
    end = "/clawd-engine.service"
    assert written(plan(), end) == written(plan(other), end)
    assert written(plan(), end) != written(plan(facts=patched), end)
    assert written(plan(), "/clawd-bot.service") != written(plan(other), "/clawd-bot.service")


def test_newest_three_images_and_the_running_one_are_kept() -> None:
    old = [f"{number:016x}" for number in range(4)]
    images = frozenset({*(f"clawd-runtime:{name}" for name in (*old, "stray")), "clawd-base:x"})
    run = plan(facts={EntriesFact: Entries(tuple(old), linked=old[3]), ImagesFact: images})
    gone = {change.path for change in run.changes if change.diff == ("removed",)}
    # The new one, the one that runs, and the newest of the others.
    assert gone >= {f"/opt/clawd/releases/{old[1]}", f"clawd-runtime:{old[2]}", "clawd-runtime:stray"}
    assert not gone & {"clawd-base:x", f"clawd-runtime:{old[0]}", f"clawd-runtime:{old[3]}"}


ROOM = Space(free=RESERVE + IMAGE_RATIO * 1000 + (3 << 30), there=False, partial=0)
L40S = gpus.GpuMachine((gpus.Gpu("0000:01:00.0", 0x26B9),), system="debian12", architecture="amd64")


@pytest.mark.parametrize(
    ("declared", "found"),
    [("auto", L40S), ("auto", gpus.GpuMachine()), ("none", L40S)],
    ids=["there", "not there", "not wanted"],
)
def test_engine_container_gets_gpus_when_the_host_has_them(declared: str, found: gpus.GpuMachine) -> None:
    run = plan(facts={gpus.GpuMachineFact: found, SpaceFact: ROOM}, gpu=declared)
    computes = declared == "auto" and bool(found.gpus)
    engine = "\n".join(written(run, "/clawd-engine.service"))
    assert (f"--gpus all --env LD_LIBRARY_PATH={LIBRARIES}" in engine) is computes
    assert ('"n_gpu_layers": "all"' in "\n".join(written(run, "/engine.json"))) is computes


def test_image_with_cuda_needs_space_for_its_libraries() -> None:
    with pytest.raises(CapacityError, match="an image of clawd-runtime"):
        plan(facts={gpus.GpuMachineFact: L40S}, gpu="required")
    run = plan(facts={gpus.GpuMachineFact: L40S, SpaceFact: ROOM}, gpu="required")
    assert not any(IMAGE.id in name for name in run.names), "the same image as without CUDA"


def test_base_image_contains_cuda_libraries_only_when_asked() -> None:
    def package(name: str, depends: str = "") -> dict[str, str]:
        fields = {"Package": name, "Version": "1", "db:Status-Status": "installed", "Provides": ""}
        return {**fields, "Pre-Depends": "", "Depends": depends}

    there = {name: package(name) for name in ("python3", "libgomp1", "libstdc++6", "config-common")}
    there["libcublas-12-9"] = package("libcublas-12-9", "config-common (>= 12)")
    assert "libcublas-12-9" not in build_image.closure(there)
    assert {"libcublas-12-9", "config-common"} <= set(
        build_image.closure(there, (*build_image.ROOTS, "libcublas-12-9"))
    )


def test_removal_deletes_the_images() -> None:
    there = {
        PathFact: PathState("directory", "0755", "root", "root"),
        UnitFact: UnitState(load="loaded", active="active", enabled="enabled"),
        ImagesFact: frozenset({"clawd-runtime:0", "clawd-base:0"}),
        EngineNamesFact: (),
        UserFact: None,
        GroupFact: None,
        StateFact: "stopped",
        MachineIdFact: "0" * 32,
    }
    run = Machine(facts=there).run(remove, execute=False)
    changed = [change.path for change in run.changes]
    assert changed.index("clawd-bot.service") < changed.index("clawd-runtime:0")
    assert {"clawd-base:0", "/run/clawd-engine", "/opt/clawd"} <= set(changed)


# The program that makes the image


def package(name: str, depends: str = "", provides: str = "") -> dict[str, str]:
    return {"Package": name, "Version": "1", "Pre-Depends": "", "Depends": depends, "Provides": provides}


def test_base_image_contains_python_dependencies_and_no_package_manager() -> None:
    there = [
        package("python3", "python3.11 (>= 3.11.2-1~), libpython3-stdlib | other, dpkg (>= 1)"),
        package("python3.11", "libc6, mime-support"),
        package("libpython3-stdlib"),
        package("libc6"),
        package("dpkg", "tar"),
        package("tar"),
        package("media-types", provides="mime-support (= 3.66)"),
        package("libstdc++6", "libc6"),
        package("nginx"),
    ]
    found = build_image.closure({fields["Package"]: fields for fields in there})
    expected = {
        "python3",
        "python3.11",
        "libpython3-stdlib",
        "libc6",
        "media-types",
        "libstdc++6",
        "libgomp1",
    }
    assert found.keys() == expected
    assert found["libgomp1"] == "-"


def test_layer_digest_depends_only_on_content(tmp_path: Path) -> None:
    digests = []
    for name, order, mode in (("a", "xy", 0o600), ("b", "yx", 0o640)):
        tree = tmp_path / name
        (tree / "opt").mkdir(parents=True)
        for file in order:
            (tree / "opt" / file).write_text(file)
            (tree / "opt" / file).chmod(mode)
        (tree / "link").symlink_to("opt/x")
        digests.append(build_image.Layer(tree, tmp_path / f"{name}.tar").digest)
    assert digests[0] == digests[1]
    assert digests[0] == f"sha256:{hashlib.sha256((tmp_path / 'a.tar').read_bytes()).hexdigest()}"
    (tmp_path / "b/opt/x").write_text("other")
    assert build_image.Layer(tmp_path / "b", tmp_path / "c.tar").digest != digests[0]


def test_docker_load_sends_only_missing_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\ncat > {tmp_path}/loaded.tar\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/file").write_text("content")
    top = build_image.Layer(tmp_path / "tree", tmp_path / "top.tar")
    layers = [f"sha256:{'0' * 64}", top.digest]
    config = build_image.image_config({"WorkingDir": "/"}, layers, "amd64")
    build_image.load(config, "clawd-runtime:x", layers, (top,))
    with tarfile.open(tmp_path / "loaded.tar") as sent:
        (manifest,) = json.load(sent.extractfile("manifest.json") or io.BytesIO())
        names = sent.getnames()
    assert names == ["manifest.json", manifest["Config"], manifest["Layers"][1]]
    assert manifest["Config"] == f"{hashlib.sha256(config).hexdigest()}.json"
    assert manifest["RepoTags"] == ["clawd-runtime:x"]


def test_host_programs_import_only_the_standard_library() -> None:
    for name in ("container_supervisor.py", "build_image.py", "container_entrypoint.py"):
        program = str(Path(build_image.__file__).with_name(name))
        check = f"import runpy; runpy.run_path({program!r})"
        subprocess.run([sys.executable, "-I", "-S", "-c", check], check=True, timeout=20)


class Client:
    """Docker's client as `build_image` calls it: answer from scripted images, and record the calls."""

    def __init__(self, *, shared: bool = False, fit: bool = True, answers: bool = True) -> None:
        self.images: set[str] = set()
        self.calls: list[str] = []
        self.answers = answers
        self._shared, self._fit = shared, fit

    def __call__(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        code = {
            "image": int(words[-1] not in self.images),
            "pull": int(not self._shared or not self.answers),
            "push": int(not self.answers),
            "run": int(not self._fit),
        }.get(words[0], 0)
        if words[0] in ("pull", "push", "tag", "rmi", "run"):
            self.calls.append(" ".join(word for word in words[:3] if not word.startswith("--")))
        if words[0] == "tag":
            self.images.add(words[2])
        if words[0] == "rmi":
            self.images.discard(words[-1])
        done = subprocess.CompletedProcess([*words], code, json.dumps([{"Id": "sha256:1"}]).encode(), b"no")
        if check:
            done.check_returncode()
        return done


def order(registry: str) -> dict[str, str]:
    return {"tag": "clawd-runtime:1", "base_tag": "clawd-base:1", "base_image": "", "registry": registry}


SHARED = ["tag clawd-runtime:1 r/clawd-runtime:1", "push r/clawd-runtime:1", "rmi r/clawd-runtime:1"]


def building(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(wanted: dict[str, str]) -> None:
        client.calls.append("build")
        client.images.add(wanted["tag"])

    monkeypatch.setattr(build_image, "docker", client)
    monkeypatch.setattr(build_image, "_build", build)


def test_image_in_the_registry_is_pulled_and_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(shared=True)
    building(client, monkeypatch)
    assert build_image.take(order("r")) == "sha256:1"
    assert client.calls == [
        "pull r/clawd-runtime:1",
        "tag r/clawd-runtime:1 clawd-runtime:1",
        "rmi r/clawd-runtime:1",
        "run",
    ]


def test_built_image_is_pushed_to_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    building(client, monkeypatch)
    assert build_image.take(order("r")) is None
    assert build_image.make(order("r")) == "sha256:1"
    assert client.calls == ["pull r/clawd-runtime:1", "build", "run", *SHARED]
    client.calls.clear()
    assert build_image.make(order("r")) == "sha256:1"
    assert client.calls == []


def test_failed_push_is_repeated_next_time_without_building_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client = Client(answers=False)
    building(client, monkeypatch)
    assert build_image.take(order("r")) is None
    with pytest.raises(build_image.RegistryError, match="does not take r/clawd-runtime:1"):
        build_image.make(order("r"))
    client.calls.clear()
    client.answers = True
    assert build_image.take(order("r")) == "sha256:1"
    assert client.calls == SHARED


def test_code_of_the_runtime_is_a_layer_of_its_own(tmp_path: Path) -> None:
    release, own = tmp_path / "release", tmp_path / "own"
    kept = ["site-packages/clawd_runtime_extras/x.py", "site-packages/numpy/x.py"]
    moved = [
        "release.json",
        "site-packages/clawd_runtime/x.py",
        "site-packages/clawd_runtime-1.dist-info/RECORD",
    ]
    for name in (*kept, *moved):
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).touch()
    build_image.own_apart(release, own)
    assert {str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()} == set(moved)
    assert {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()} == set(kept)


LOGIN = {"user": "bots", "password": "s3cret-of-the-registry"}


def test_registry_login_is_passed_only_by_standard_input() -> None:
    run = plan(docker={"registry": "r.internal:5000/bots", "registry_login": LOGIN})
    encoded = base64.b64encode(b"bots:s3cret-of-the-registry").decode()
    assert "s3cret" not in repr(run.changes) + repr(run.names)
    settings = LoginSettings(registry="r.internal:5000", **LOGIN)
    assert json.loads(image.client_config(settings)) == {"auths": {"r.internal:5000": {"auth": encoded}}}
    assert encoded not in repr(replace(IMAGE, login=image.client_config(settings)))
    hub = settings.model_copy(update={"registry": "docker.io"})
    assert list(json.loads(image.client_config(hub))["auths"]) == ["https://index.docker.io/v1/"]
    assert image.client_config(None) == b""


def test_image_that_does_not_run_the_release_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(fit=False)
    monkeypatch.setattr(build_image, "docker", client)
    monkeypatch.setattr(build_image, "_build", lambda _: client.calls.append("build"))
    with pytest.raises(subprocess.CalledProcessError):
        build_image.make(order(""))
    assert client.calls == ["build", "run", "rmi clawd-runtime:1"]
