"""The shell script that builds llama-cpp-python on a machine, from what was put there.

The build is for every CPU of its architecture: llama.cpp comes with one back end for each level of
instructions, and the engine loads the best that the host can run (`GGML_CPU_ALL_VARIANTS`). Nothing but the
C++ compiler is fetched on the machine, and only when it is missing.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

SDIST = "llama.tar.gz"
TOOLS = "tools.tar.gz"
OUT = "out"
"""Names in the build folder: the source archive, cmake and its companions, and where the wheel appears."""

CAPABILITIES = "cpu-variants"
_CMAKE_ARGS = (
    "-DGGML_NATIVE=OFF",
    "-DGGML_BACKEND_DL=ON",
    "-DGGML_CPU_ALL_VARIANTS=ON",
    "-DGGML_CCACHE=OFF",
    "-DLLAVA_BUILD=OFF",
    "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,--build-id=none",
    "-DCMAKE_MODULE_LINKER_FLAGS=-Wl,--build-id=none",
)
_TARGETS = ("llama", "llama-common")
"""llama-common is not used; the install step of the package wants it."""

_FREE_MB = 1500
_MEMORY_PER_JOB_KB = 1_200_000
_EPOCH = 315532800
"""1980-01-01, the earliest time that a zip file can carry."""

_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a machine is to build: `sudo` for what needs root, and whether it may install the compiler."""

    folder: str
    sudo: bool = False
    install_compiler: bool = False


def recipe_text() -> str:
    """Everything about a build that decides what comes out; part of the key in the cache."""
    return " ".join((*_CMAKE_ARGS, *_TARGETS, CAPABILITIES))


def step_of(line: str) -> float | None:
    """How far the build is (0…1) after a line of its output; `None` when the line does not tell."""
    match = _STEP.match(line)
    return int(match[1]) / int(match[2]) if match and int(match[2]) else None


def prepare_script() -> str:
    """Makes a build folder, clears what killed builds left long ago, and prints the folder's path."""
    return (
        "find /var/tmp -maxdepth 1 -name 'clawd-engine.*' -user \"$(id -u)\" -mmin +1440 "
        "-exec rm -rf {} + 2>/dev/null; mktemp -d /var/tmp/clawd-engine.XXXXXX"
    )


def is_build_folder(path: str) -> bool:
    """Whether a path is one that `prepare_script` prints."""
    return re.fullmatch(r"/var/tmp/clawd-engine\.\w+", path) is not None  # noqa: S108 (made by mktemp)


def build_script(recipe: Recipe) -> str:
    """Builds the wheel in `recipe.folder`; its last line of output is `wheel NAME`.

    The machine's standard input is held open while the result is wanted: when it closes, the build and
    everything it started end, and the folder is removed.
    """
    install = _INSTALL if recipe.install_compiler else _EXPLAIN
    return _SCRIPT.format(
        folder=shlex.quote(recipe.folder),
        compiler=install.format(sudo="sudo -n" if recipe.sudo else ""),
        free_mb=_FREE_MB,
        memory=_MEMORY_PER_JOB_KB,
        sdist=SDIST,
        tools=TOOLS,
        out=OUT,
        cmake_args=shlex.quote(" ".join(_CMAKE_ARGS)),
        targets=shlex.quote(";".join(_TARGETS)),
        epoch=_EPOCH,
    )


_EXPLAIN = "fail 'there is no C++ compiler: apt-get install --no-install-recommends g++'"

_INSTALL = """\
  apt_get() {{ {sudo} env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 "$@"; }}
  packages() {{ dpkg-query -W -f '${{Package}}\\n' | sort -u; }}
  echo 'installing the C++ compiler'
  packages > packages.before
  apt_get update || fail 'the package index cannot be refreshed (sudo without password? network?)'
  apt_get install --no-install-recommends g++ || fail 'g++ cannot be installed'
  packages > packages.after
  added=$(comm -13 packages.before packages.after)"""

_SCRIPT = """\
set -eu
export LC_ALL=C
exec 3<&0 </dev/null
cd {folder}
folder=$PWD
added=
fail() {{ echo "clawd: $1"; exit 1; }}
finish() {{
  status=$?
  trap '' HUP INT TERM PIPE
  trap - EXIT
  if [ -n "$added" ]; then
    echo 'removing the C++ compiler' || true
    apt_get purge $added >/dev/null 2>&1 || true
  fi
  [ $status = 0 ] || rm -rf "$folder"
  exit $status
}}
trap finish EXIT
trap 'exit 130' HUP INT TERM PIPE
(cat <&3 >/dev/null; kill -TERM 0) >/dev/null 2>&1 &

free=$(df -Pm . | awk 'NR == 2 {{ print $4 }}')
[ "$free" -ge {free_mb} ] || fail "/var/tmp has $free MB free; the build needs {free_mb}"
if ! command -v g++ >/dev/null 2>&1; then
{compiler}
fi
mkdir source tools tmp {out}
tar -xzf {sdist} -C source --strip-components=1 --no-same-owner
tar -xzf {tools} -C tools --strip-components=1 --no-same-owner
jobs=$(awk -v cores="$(nproc)" '/^MemAvailable/ {{ n = int($2 / {memory}); if (n > cores) n = cores;
  print (n < 1 ? 1 : n) }}' /proc/meminfo)
echo "building with $jobs jobs"
cd source
status=0
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
