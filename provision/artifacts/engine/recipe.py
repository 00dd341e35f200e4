"""The shell script that builds llama-cpp-python on a machine, from files that were copied there.

The build runs on every CPU of its architecture: llama.cpp has a back end for each instruction set level, and
the engine loads the best that the host supports (`GGML_CPU_ALL_VARIANTS`; `engine.variants`). For hosts on
this machine, only the back ends for every CPU and for this one are built. For GPUs there is one more
(`GGML_CUDA`), only for their architectures. The machine downloads only compilers that are missing: C++, and
NVIDIA's from the repository of the inventory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deploys.nvidia.cuda import Cuda
from deploys.ops.programs import program
from deploys.ops.shell import assignments
from provision.artifacts.engine import variants

SDIST = "llama.tar.gz"
TOOLS = "tools.tar.gz"
KEY = "repository.key"
OUT = "out"
"""Names in the build folder: the source archive, the build tools (cmake and others), the key of the
repository of CUDA's compiler, and the output folder for the wheel."""

ALL_VARIANTS = "variants"
_CMAKE_ARGS = (
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DGGML_CCACHE=OFF",
    "-DLLAVA_BUILD=OFF",
    "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,--build-id=none",
    "-DCMAKE_MODULE_LINKER_FLAGS=-Wl,--build-id=none",
)
_CORRECTIONS = ("tile-configuration",)
"""Corrections of the source in the script, with which another wheel is built."""
_TARGETS = ("llama",)
"""Libraries that the engine loads. llama-common, which only llama.cpp's programs use, is not built; the
script changes the source for that, because the package overrides the setting."""

_FREE_MB, _FREE_MB_CUDA = 1500, 8000
_MEMORY_PER_JOB_KB, _MEMORY_PER_JOB_KB_CUDA = 1_200_000, 3_000_000
"""Memory that compilers need; the values for CUDA are from its documentation and not measured."""
_EPOCH = 315532800
"""1980-01-01, the earliest time that a zip file can store."""

_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings of a build: `sudo` for commands of root, and whether compilers may be installed.

    `variants` are the only ones to build for processors; all if empty. With `cuda` it builds for GPUs as
    well; `repository` is the URL of NVIDIA's packages for the machine, verified with the key in the folder.
    """

    folder: str
    variants: tuple[str, ...] = ()
    sudo: bool = False
    install_compiler: bool = False
    cuda: Cuda | None = None
    repository: str = ""
    armored: bool = True


def capabilities(cuda: Cuda | None = None, cpu: str = variants.ALL) -> str:
    """Return the capabilities of a build, as part of a name: `cpu-variants`, or `cpu-zen4` with only that."""
    name = f"cpu-{cpu or ALL_VARIANTS}"
    return f"{name}-{cuda}" if cuda else name


def recipe_text(cuda: Cuda | None = None, cpu: str = variants.ALL) -> str:
    """Return all settings that determine the result of a build, for its key in the cache."""
    return " ".join((*cmake_arguments(cuda), *_CORRECTIONS, *_TARGETS, capabilities(cpu=cpu)))


def cmake_arguments(cuda: Cuda | None) -> tuple[str, ...]:
    """Return the settings of llama.cpp's build (docs/build.md and ggml/src/ggml-cuda/CMakeLists.txt)."""
    if cuda is None:
        return _CMAKE_ARGS
    architectures = ";".join(f"{name}-real" for name in cuda.architectures)
    return (
        *_CMAKE_ARGS,
        "-DGGML_CUDA=ON",
        "-DGGML_CUDA_NCCL=OFF",
        f"-DCMAKE_CUDA_COMPILER={cuda.folder}/bin/nvcc",
        f"-DCUDAToolkit_ROOT={cuda.folder}",
        f"-DCMAKE_CUDA_ARCHITECTURES={architectures}",
    )


def step_of(line: str) -> float | None:
    """Return the progress of the build (0…1) from a line of its output; `None` when the line has none."""
    match = _STEP.match(line)
    return int(match[1]) / int(match[2]) if match and int(match[2]) else None


def prepare_script() -> str:
    """Return the script that creates a build folder, removes old leftovers, and prints the folder's path."""
    return (
        "find /var/tmp -maxdepth 1 -name 'clawd-engine.*' -user \"$(id -u)\" -mmin +1440 "
        "-exec rm -rf {} + 2>/dev/null; mktemp -d /var/tmp/clawd-engine.XXXXXX"
    )


def is_build_folder(path: str) -> bool:
    """Return whether a path is one that `prepare_script` prints."""
    return re.fullmatch(r"/var/tmp/clawd-engine\.\w+", path) is not None  # noqa: S108 (made by mktemp)


def build_script(recipe: Recipe) -> str:
    """Return the script that builds the wheel in `recipe.folder`; its last line of output is `wheel NAME`.

    The script's standard input must stay open: when it is closed, the build and everything it started end,
    and the folder is removed.
    """
    cuda = recipe.cuda
    values = assignments(
        folder=recipe.folder,
        free_mb=_FREE_MB_CUDA if cuda else _FREE_MB,
        memory=_MEMORY_PER_JOB_KB_CUDA if cuda else _MEMORY_PER_JOB_KB,
        sdist=SDIST,
        tools=TOOLS,
        out=OUT,
        cmake_args=" ".join(cmake_arguments(cuda)),
        variants="|".join(map(re.escape, recipe.variants)),
        targets=";".join(_TARGETS),
        epoch=_EPOCH,
        nvcc=f"{cuda.folder}/bin/nvcc" if cuda else "",
        compiler=" ".join(cuda.compiler) if cuda else "",
    )
    return values + _compilers(recipe) + _BUILD


def _compilers(recipe: Recipe) -> str:
    """Return the functions that install missing compilers, or only report them."""
    if not recipe.install_compiler:
        return _EXPLAIN
    keyring = f"/etc/apt/keyrings/clawd-engine-build.{'asc' if recipe.armored else 'gpg'}"
    sudo = "sudo -n" if recipe.sudo else ""
    return assignments(sudo=sudo, uri=recipe.repository, keyring=keyring, key=KEY) + _INSTALL


_EXPLAIN = program("provision/artifacts/engine/scripts/explain.sh")
_INSTALL = program("provision/artifacts/engine/scripts/install.sh")
_BUILD = program("provision/artifacts/engine/scripts/build.sh")
