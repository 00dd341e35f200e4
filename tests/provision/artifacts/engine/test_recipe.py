from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from deploys.nvidia.cuda import Cuda
from provision.artifacts.engine import recipe
from provision.artifacts.engine.recipe import KEY, SDIST, TOOLS, Recipe, build_script, step_of

WHOLE_APT_LOG = ["update", "install --no-install-recommends g++", "purge g++ libc6-dev"]

SOURCE = {
    "CMakeLists.txt": 'set(LLAMA_BUILD_COMMON ON CACHE BOOL "Build the common library" FORCE)\n',
    "vendor/llama.cpp/ggml/src/CMakeLists.txt": """\
function(ggml_add_cpu_backend_variant tag_name)
if (x86)
    ggml_add_cpu_backend_variant(x64)
    ggml_add_cpu_backend_variant(sse42              SSE42)
        ggml_add_cpu_backend_variant(zen4           SSE42 AVX)
elseif (ARM)
    ggml_add_cpu_backend_variant(armv8.2_1    DOTPROD)
    ggml_add_cpu_backend_variant(armv8.2_11   DOTPROD)
endif()
""",
    "vendor/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp": "    _tile_loadconfig(&tc);\n",
}
"""Lines of the source that the script changes, as in llama-cpp-python 0.3.36."""

FAKE_PYTHON = """#!/bin/sh
cat CMakeLists.txt vendor/llama.cpp/ggml/src/CMakeLists.txt vendor/llama.cpp/ggml/src/ggml-cpu/amx/mmq.cpp
echo "targets $SKBUILD_BUILD_TARGETS"
echo "args $CMAKE_ARGS"
echo $$ > "$FAKE/pid"
echo "[1/2] one"
{then}
for out; do :; done
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A build folder with what the laptop puts there, and programs that stand for the real ones."""
    folder = tmp_path / "clawd-engine.x"
    folder.mkdir()
    source = {f"llama-1/{path}": text for path, text in SOURCE.items()}
    for name, files in ((SDIST, source), (TOOLS, {"tools/bin/ninja": "x"})):
        with tarfile.open(folder / name, "w:gz") as archive:
            for path, text in files.items():
                info = tarfile.TarInfo(path)
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
    (tmp_path / "path").mkdir()
    return folder


def program(folder: Path, name: str, text: str) -> None:
    path = folder.parent / "path" / name
    path.write_text(text)
    path.chmod(0o755)


def start(folder: Path, *, only: bool = False, **recipe: Any) -> subprocess.Popen[str]:
    own = str(folder.parent / "path")
    return subprocess.Popen(
        ["/bin/sh", "-c", build_script(Recipe(str(folder), **recipe))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
        env={"PATH": own if only else f"{own}:{os.environ['PATH']}", "FAKE": str(folder.parent)},
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> str:
    """Its output; standard input stays open until it has ended."""
    assert process.stdout is not None
    assert process.stdin is not None
    output = process.stdout.read()
    process.wait(timeout=20)
    process.stdin.close()
    process.stdout.close()
    return output


def vanishes(path: Path) -> bool:
    until = time.monotonic() + 10
    while path.exists() and time.monotonic() < until:
        time.sleep(0.02)
    return not path.exists()


@pytest.mark.parametrize("install", [False, True])
@pytest.mark.parametrize("sudo", [False, True])
def test_build_scripts_parse_as_posix_shell(install: bool, sudo: bool) -> None:
    script = build_script(Recipe("/var/tmp/it's", sudo=sudo, install_compiler=install))
    for text in (script, recipe.prepare_script()):
        subprocess.run(["/bin/sh", "-n", "-c", text], check=True)
    assert ("sudo -n" in script) is (sudo and install)
    assert ("apt_get install" in script) is install


def test_build_gets_its_flags_and_leaves_the_wheel(machine: Path) -> None:
    program(machine, "g++", "#!/bin/sh\n")
    program(machine, "python3", FAKE_PYTHON.format(then="echo wheel x.whl"))
    process = start(machine)
    output = finish(process)
    assert process.returncode == 0, output
    assert "targets llama\n" in output
    assert "-DGGML_CPU_ALL_VARIANTS=ON" in output
    assert output.splitlines()[-1] == "wheel x.whl"
    assert (machine / "tools/bin/ninja").exists()
    assert (machine / "out").is_dir()


def test_whole_configuration_of_tiles_is_an_input_of_the_instruction_that_loads_it(machine: Path) -> None:
    program(machine, "g++", "#!/bin/sh\n")
    program(machine, "python3", FAKE_PYTHON.format(then="echo wheel x.whl"))
    output = finish(start(machine))
    assert '    __asm__ volatile("ldtilecfg %0" : : "m"(tc));\n' in output
    assert "_tile_loadconfig" not in output


def variants_left(output: str) -> list[str]:
    return re.findall(r"ggml_add_cpu_backend_variant\((\S+?)[\s)]", output)


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        ((), ["x64", "sse42", "zen4", "armv8.2_1", "armv8.2_11"]),
        (("x64", "zen4"), ["x64", "zen4"]),
        (("armv8.2_1",), ["armv8.2_1"]),
    ],
)
def test_only_the_chosen_variants_are_built_and_never_the_common_library(
    machine: Path, chosen: tuple[str, ...], left: list[str]
) -> None:
    program(machine, "g++", "#!/bin/sh\n")
    program(machine, "python3", FAKE_PYTHON.format(then="echo wheel x.whl"))
    output = finish(start(machine, variants=chosen))
    assert [name for name in variants_left(output) if name != "tag_name"] == left
    assert "function(ggml_add_cpu_backend_variant tag_name)" in output
    assert "set(LLAMA_BUILD_COMMON OFF " in output


def test_failed_build_leaves_no_files(machine: Path) -> None:
    program(machine, "g++", "#!/bin/sh\n")
    program(machine, "python3", FAKE_PYTHON.format(then="exit 7"))
    process = start(machine)
    finish(process)
    assert process.returncode == 7
    assert vanishes(machine)


def test_lost_connection_ends_the_build_and_leaves_no_files(machine: Path) -> None:
    program(machine, "g++", "#!/bin/sh\n")
    program(machine, "python3", FAKE_PYTHON.format(then="sleep 600"))
    process = start(machine)
    assert process.stdout is not None
    assert process.stdin is not None
    for line in process.stdout:
        if line.startswith("[1/2]"):
            break
    assert machine.exists()
    process.stdin.close()
    assert process.wait(timeout=10) != 0
    assert vanishes(machine)
    builder = int((machine.parent / "pid").read_text())
    until = time.monotonic() + 10
    while alive(builder) and time.monotonic() < until:
        time.sleep(0.02)
    assert not alive(builder)
    process.stdout.close()


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def without_compiler(machine: Path) -> None:
    """A PATH with the programs of a minimal Debian and no g++."""
    names = "sh cat df awk sed rm mkdir tar gzip nproc env nice sort comm sleep"
    for name in names.split():
        real = next(Path(d, name) for d in ("/bin", "/usr/bin") if Path(d, name).exists())
        (machine.parent / "path" / name).symlink_to(real)
    program(machine, "python3", FAKE_PYTHON.format(then="echo wheel x.whl"))


def test_missing_compiler_is_reported(machine: Path) -> None:
    without_compiler(machine)
    process = start(machine, only=True)
    assert "clawd: there is no C++ compiler: apt-get install" in finish(process)
    assert process.returncode == 1
    assert vanishes(machine)


def with_apt(machine: Path) -> None:
    """apt-get and dpkg-query that install and remember, in apt.log, what they were asked."""
    installed = machine.parent / "installed"
    installed.write_text("base\nzlib\n")
    program(machine, "dpkg-query", f"#!/bin/sh\ncat {installed}\n")
    program(
        machine,
        "apt-get",
        f"""#!/bin/sh
echo "$*" >> {machine.parent}/apt.log
case "$*" in
*" install "*) printf 'base\\ng++\\nlibc6-dev\\nzlib\\n' > {installed}
  printf '#!/bin/sh\\n' > {machine.parent}/path/g++ ;;
esac
""",
    )


def apt_log(machine: Path) -> list[str]:
    return [line.split("Timeout=300 ")[1] for line in (machine.parent / "apt.log").read_text().splitlines()]


@pytest.mark.parametrize("build", ["echo wheel x.whl", "exit 3"])
def test_compiler_installed_for_the_build_is_removed_with_its_dependencies(machine: Path, build: str) -> None:
    without_compiler(machine)
    program(machine, "python3", FAKE_PYTHON.format(then=build))
    with_apt(machine)
    process = start(machine, only=True, install_compiler=True)
    output = finish(process)
    assert process.returncode == (0 if "wheel" in build else 3), output
    assert apt_log(machine) == WHOLE_APT_LOG


def test_compiler_is_removed_also_after_a_lost_connection(machine: Path) -> None:
    without_compiler(machine)
    program(machine, "python3", FAKE_PYTHON.format(then="sleep 600"))
    with_apt(machine)
    process = start(machine, only=True, install_compiler=True)
    assert process.stdout is not None
    assert process.stdin is not None
    for line in process.stdout:
        if line.startswith("[1/2]"):
            break
    process.stdout.close()
    process.stdin.close()
    process.wait(timeout=10)
    assert vanishes(machine)
    assert apt_log(machine) == WHOLE_APT_LOG


CUDA = Cuda("12.9", ("80", "86", "120a"))
URI = "https://developer.example/repos/debian12/x86_64"


def for_gpus(machine: Path, then: str) -> subprocess.Popen[str]:
    """A host with g++ and without nvcc, whose /etc is `etc` next to the build folder."""
    without_compiler(machine)
    program(machine, "g++", "#!/bin/sh\n")
    program(machine, "python3", FAKE_PYTHON.format(then=then))
    with_apt(machine)
    etc = machine.parent / "etc"
    (etc / "apt/sources.list.d").mkdir(parents=True, exist_ok=True)
    for name in ("grep", "install"):
        (machine.parent / "path" / name).symlink_to(shutil.which(name) or name)
    (machine / KEY).write_bytes(b"key")
    recipe = Recipe(str(machine), install_compiler=True, cuda=CUDA, repository=URI)
    return subprocess.Popen(
        ["/bin/sh", "-c", build_script(recipe).replace("/etc/", f"{etc}/").replace("8000", "1")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={"PATH": str(machine.parent / "path"), "FAKE": str(machine.parent)},
    )


INSTALLED_CUDA = f"install --no-install-recommends {' '.join(CUDA.compiler)}"


@pytest.mark.parametrize("then", ["cat $FAKE/etc/apt/*/*; echo wheel x.whl", "exit 3"])
def test_cuda_compiler_is_installed_from_its_repository_only_during_the_build(
    machine: Path, then: str
) -> None:
    process = for_gpus(machine, then)
    output = finish(process)
    if "wheel" in then:
        assert process.returncode == 0, output
        source = output[output.index("Types: deb") :].splitlines()
        keyring = f"{machine.parent}/etc/apt/keyrings/clawd-engine-build.asc"
        assert source[:4] == ["Types: deb", f"URIs: {URI}", "Suites: /", f"Signed-By: {keyring}"]
        assert "-DGGML_CUDA=ON" in output
        assert "-DCMAKE_CUDA_ARCHITECTURES=80-real;86-real;120a-real" in output
        assert "-DCMAKE_CUDA_COMPILER=/usr/local/cuda-12.9/bin/nvcc" in output
        assert "-DGGML_CPU_ALL_VARIANTS=ON" in output
    else:
        assert process.returncode == 3, output
    assert apt_log(machine) == ["update", INSTALLED_CUDA, "purge g++ libc6-dev"]
    assert [path for path in (machine.parent / "etc").rglob("*") if path.is_file()] == []


def test_existing_repository_is_used_and_kept(machine: Path) -> None:
    there = machine.parent / "etc/apt/sources.list.d/clawd-nvidia.sources"
    there.parent.mkdir(parents=True)
    there.write_text(f"Types: deb\nURIs: {URI}\nSuites: /\n")
    process = for_gpus(machine, "echo wheel x.whl")
    assert "wheel x.whl" in finish(process)
    assert [path for path in (machine.parent / "etc").rglob("*") if path.is_file()] == [there]


def test_missing_cuda_compiler_on_this_machine_is_reported(machine: Path) -> None:
    program(machine, "g++", "#!/bin/sh\n")
    process = subprocess.Popen(
        ["/bin/sh", "-c", build_script(Recipe(str(machine), cuda=CUDA)).replace("8000", "1")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={"PATH": f"{machine.parent}/path:{os.environ['PATH']}"},
    )
    assert "clawd: there is no CUDA compiler: apt-get install" in finish(process)
    assert process.returncode == 1


def test_recipe_for_gpus_differs_and_recipe_for_cpus_has_no_cuda() -> None:
    assert recipe.recipe_text(CUDA) != recipe.recipe_text()
    assert "CUDA" not in recipe.recipe_text()
    assert recipe.recipe_text(CUDA, "zen4") != recipe.recipe_text(CUDA)
    assert recipe.capabilities() == "cpu-variants"


def test_a_build_for_one_processor_is_another_recipe_than_for_all() -> None:
    texts = {recipe.recipe_text(cpu=cpu) for cpu in ("", "zen4", "haswell")}
    assert len(texts) == 3
    assert recipe.capabilities(cpu="zen4") == "cpu-zen4"
    assert recipe.capabilities(CUDA, "zen4") == f"cpu-zen4-{CUDA}"


@pytest.mark.parametrize(
    ("line", "fraction"),
    [
        ("[12/325] Building CXX object x.o", 12 / 325),
        ("  [382/382] Linking", 1.0),
        ("-- [1/2]", None),
        ("[0/0] x", None),
        ("", None),
    ],
)
def test_progress_of_ninja_is_parsed(line: str, fraction: float | None) -> None:
    assert step_of(line) == fraction


def test_only_build_folders_of_the_recipe_are_accepted() -> None:
    made = subprocess.run(
        ["/bin/sh", "-c", recipe.prepare_script()], capture_output=True, text=True, check=True
    ).stdout.strip()
    try:
        assert recipe.is_build_folder(made)
    finally:
        Path(made).rmdir()
    for path in ("/", "/var/tmp/clawd-engine.a b", "/var/tmp/clawd-engine.x/..", "sudo: no"):
        assert not recipe.is_build_folder(path)
