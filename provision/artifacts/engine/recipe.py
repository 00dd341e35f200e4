"""The shell script that builds llama-cpp-python on a machine, from files that were copied there.

The build runs on every CPU of its architecture: llama.cpp has a back end for each instruction set level, and
the engine loads the best that the host supports (`GGML_CPU_ALL_VARIANTS`; `engine.variants`). For hosts on
this machine, only the back ends for every CPU and for this one are built. For GPUs there is one more
(`GGML_CUDA`), only for their architectures. The machine downloads only compilers that are missing: C++, and
NVIDIA's from the repository of the inventory.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

from deploys.nvidia.cuda import Cuda
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
    return " ".join((*cmake_arguments(cuda), *_TARGETS, capabilities(cpu=cpu)))


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
    return _SCRIPT.format(
        folder=shlex.quote(recipe.folder),
        bring=(_BRING if recipe.install_compiler else _EXPLAIN).format(sudo="sudo -n" if recipe.sudo else ""),
        cuda=_cuda(cuda, recipe) if cuda else "",
        free_mb=_FREE_MB_CUDA if cuda else _FREE_MB,
        memory=_MEMORY_PER_JOB_KB_CUDA if cuda else _MEMORY_PER_JOB_KB,
        sdist=SDIST,
        tools=TOOLS,
        out=OUT,
        variants=_ONLY.format(names="|".join(map(re.escape, recipe.variants))) if recipe.variants else "",
        cmake_args=shlex.quote(" ".join(cmake_arguments(cuda))),
        targets=shlex.quote(";".join(_TARGETS)),
        epoch=_EPOCH,
    )


def _cuda(cuda: Cuda, recipe: Recipe) -> str:
    keyring = f"/etc/apt/keyrings/clawd-engine-build.{'asc' if recipe.armored else 'gpg'}"
    return _CUDA.format(
        folder=cuda.folder,
        packages=" ".join(cuda.compiler),
        add=_ADD.format(keyring=keyring, key=KEY, uri=shlex.quote(recipe.repository))
        if recipe.install_compiler
        else "",
    )


# `bring WHAT PACKAGE …` on the user's machine only prints what is missing.
_EXPLAIN = """\
bring() {{ what=$1; shift; fail "there is no $what: apt-get install --no-install-recommends $*"; }}
clean() {{ :; }}"""

# New packages are found by comparing with those before, so that an interrupted build is cleaned up as well.
_BRING = """\
root() {{ {sudo} "$@"; }}
apt_get() {{ root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }}
packages() {{ dpkg-query -W -f '${{Package}}\\n' | sort -u; }}
bring() {{
  echo "installing the $1"
  shift
  [ -f packages.before ] || packages > packages.before
  apt_get update || fail 'cannot update the package index: check the network and sudo without a password'
  apt_get install --no-install-recommends "$@" || fail "cannot install $*"
}}
clean() {{
  [ ! "${{source_added-}}" ] || root rm -f "$source_added" "$key_added"
  [ -f packages.before ] || return 0
  packages > packages.after
  added=$(comm -13 packages.before packages.after)
  [ -n "$added" ] || return 0
  echo 'removing the compilers' || true
  apt_get purge $added >/dev/null 2>&1 || true
}}"""

# The repository exists if a run has installed the driver; apt refuses a second entry with another key.
_CUDA = """\
if [ ! -x {folder}/bin/nvcc ]; then
{add}  bring 'CUDA compiler' {packages}
fi
"""
_ADD = """\
  if ! grep -qsF {uri} /etc/apt/sources.list.d/*.sources; then
    source_added=/etc/apt/sources.list.d/clawd-engine-build.sources
    key_added={keyring}
    root install -D -m 0644 {key} "$key_added" || fail 'cannot install the key of the repository'
    printf 'Types: deb\\nURIs: %s\\nSuites: /\\nSigned-By: %s\\n' {uri} "$key_added" > build.sources
    root install -m 0644 build.sources "$source_added" || fail 'cannot add the repository'
  fi
"""

# llama.cpp has no setting for some of its variants: the lines that add the others are removed.
_ONLY = """\
sed -i -E '/^ *ggml_add_cpu_backend_variant\\(/{{/\\(({names})[ )]/!d}}' \\
  vendor/llama.cpp/ggml/src/CMakeLists.txt
"""

_SCRIPT = """\
set -eu
export LC_ALL=C
exec 3<&0 </dev/null
cd {folder}
folder=$PWD
fail() {{ echo "clawd: $1"; exit 1; }}
{bring}
finish() {{
  status=$?
  trap '' HUP INT TERM PIPE
  trap - EXIT
  cd "$folder"
  clean
  [ $status = 0 ] || rm -rf "$folder"
  exit $status
}}
trap finish EXIT
trap 'exit 130' HUP INT TERM PIPE
(cat <&3 >/dev/null; kill -TERM 0) >/dev/null 2>&1 &

free=$(df -Pm . | awk 'NR == 2 {{ print $4 }}')
[ "$free" -ge {free_mb} ] || fail "/var/tmp has $free MB free; the build needs {free_mb}"
command -v g++ >/dev/null 2>&1 || bring 'C++ compiler' g++
{cuda}mkdir source tools tmp {out}
tar -xzf {sdist} -C source --strip-components=1 --no-same-owner
tar -xzf {tools} -C tools --strip-components=1 --no-same-owner
jobs=$(awk -v cores="$(nproc)" '/^MemAvailable/ {{ n = int($2 / {memory}); if (n > cores) n = cores;
  print (n < 1 ? 1 : n) }}' /proc/meminfo)
echo "building with $jobs jobs"
cd source
sed -i 's/set(LLAMA_BUILD_COMMON ON /set(LLAMA_BUILD_COMMON OFF /' CMakeLists.txt
{variants}status=0
env TMPDIR="$folder/tmp" PYTHONPATH="$folder/tools" \\
  PATH="$folder/tools/bin:$folder/tools/cmake/data/bin:$PATH" \\
  CC=gcc CXX=g++ CFLAGS="-ffile-prefix-map=$folder=." CXXFLAGS="-ffile-prefix-map=$folder=." LDFLAGS= \\
  CMAKE_ARGS={cmake_args} CMAKE_GENERATOR=Ninja CMAKE_BUILD_PARALLEL_LEVEL="$jobs" \\
  SKBUILD_BUILD_TARGETS={targets} SKBUILD_BUILD_DIR="$folder/build" SOURCE_DATE_EPOCH={epoch} \\
  nice -n 10 python3 -B -s -c '
import sys
from scikit_build_core.build import build_wheel
name = build_wheel(sys.argv[1], {{"cmake.verbose": "false"}})
print("wheel", name, flush=True)
' "$folder/{out}" 2>&1 || status=$?
exit $status
"""
