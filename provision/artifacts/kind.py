"""What kind of host something is built for: architecture, Python, C library."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inventory.errors import ArtifactError

ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_PYTHON = (3, 11)
_OLDEST_MANYLINUX = 17
"""glibc 2.17: the oldest C library that today's binary wheels are built for (manylinux2014, PEP 599)."""

_PYTHON_PROBE = """
import os, platform, struct, sys
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except (ValueError, OSError, AttributeError):
    libc = None
print("clawd-kind", platform.machine(), struct.calcsize("P") * 8, platform.python_implementation(),
      "%d.%d" % sys.version_info[:2], libc or "other 0")
"""

PROBE = f"""if command -v python3 >/dev/null 2>&1; then
python3 -I -c '{_PYTHON_PROBE}'
else echo clawd-kind "$(uname -m)" no-python; fi"""
"""A POSIX shell command that prints one line, which `HostKind.from_probe` reads."""

_ANSWER = re.compile(
    r"^clawd-kind (?P<machine>\S+) (?P<bits>\d+) (?P<implementation>\S+) (?P<python>\d+\.\d+)"
    r" (?P<libc>\S+) (?P<libc_version>[\d.]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, order=True)
class HostKind:
    """Hosts of one kind run the same release.

    `python` and `libc_version` are (major, minor). Only CPython on glibc is supported. `cuda` says with which
    CUDA, and for which GPUs, the engine is made (`deploys.nvidia.cuda.Cuda`); empty for processors only.
    """

    architecture: str
    python: tuple[int, int]
    libc_version: tuple[int, int]
    libc: str = "glibc"
    cuda: str = ""

    def __str__(self) -> str:
        name = f"{self.architecture}-cp{_digits(self.python)}-{self.libc}{_dotted(self.libc_version)}"
        return f"{name}-{self.cuda}" if self.cuda else name

    @classmethod
    def from_probe(cls, output: str, *, where: str) -> HostKind:
        """Reads what `PROBE` printed on the host `where`.

        Raises ArtifactError when nothing can be built for such a host.
        """
        if re.search(r"^clawd-kind \S+ no-python$", output, re.MULTILINE):
            raise ArtifactError(
                f"{where}: there is no python3, which runs the bot and the engine",
                advice=f"install it on {where}: apt-get install --no-install-recommends python3",
            )
        match = _ANSWER.search(output)
        if match is None:
            raise ArtifactError(f"{where}: what kind of host it is cannot be read from {output[-200:]!r}")
        _refuse_unsupported(match, where)
        return cls(match["machine"], _version(match["python"]), _version(match["libc_version"]))

    @classmethod
    def of_this_machine(cls) -> HostKind | None:
        """The machine that this program runs on; `None` when it is not of a kind that hosts can be.

        Its Python is the one that runs this program.
        """
        command = [sys.executable, "-I", "-c", _PYTHON_PROBE]
        answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        if sys.platform != "linux":
            return None
        try:
            return cls.from_probe(answer, where="this machine")
        except ArtifactError:
            return None

    def runs_builds_of(self, other: HostKind) -> bool:
        """Whether an engine built on `other` is for here: same architecture and CUDA, C library not older."""
        return (self.architecture, self.libc, self.cuda) == (other.architecture, other.libc, other.cuda) and (
            self.libc_version >= other.libc_version
        )

    def to_json(self) -> dict[str, object]:
        """Plain values, for files."""
        return {
            "architecture": self.architecture,
            "libc": self.libc,
            "libc_version": list(self.libc_version),
            "python": list(self.python),
            **({"cuda": self.cuda} if self.cuda else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> HostKind:
        """Reads what `to_json` gave; raises KeyError, TypeError or ValueError for anything else."""
        (python_major, python_minor), (libc_major, libc_minor) = values["python"], values["libc_version"]
        return cls(
            values["architecture"],
            (int(python_major), int(python_minor)),
            (int(libc_major), int(libc_minor)),
            values["libc"],
            str(values.get("cuda", "")),
        )

    @property
    def platforms(self) -> tuple[str, ...]:
        """Platform tags of wheels that run here, best first (PEP 600 and the older aliases)."""
        major, minor = self.libc_version
        tags = [f"manylinux_{major}_{n}_{self.architecture}" for n in range(minor, _OLDEST_MANYLINUX - 1, -1)]
        return (*tags, f"manylinux2014_{self.architecture}")

    @property
    def pip_options(self) -> tuple[str, ...]:
        """Options that make pip choose wheels for this kind instead of for the laptop."""
        platforms = [option for tag in self.platforms for option in ("--platform", tag)]
        return (
            *platforms,
            "--python-version", _dotted(self.python),
            "--implementation", "cp",
            "--abi", f"cp{_digits(self.python)}",
        )  # fmt: skip

    @property
    def marker_environment(self) -> dict[str, str]:
        """What environment markers see on such a host (PEP 508); every variable is set."""
        python = _dotted(self.python)
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{python}.0",
            "os_name": "posix",
            "platform_machine": self.architecture,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{python}.0",
            "python_version": python,
            "sys_platform": "linux",
        }


def _refuse_unsupported(answer: re.Match[str], where: str) -> None:
    machine, bits = answer["machine"], answer["bits"]
    if machine not in ARCHITECTURES or bits != "64":
        raise ArtifactError(
            f"{where}: is a {bits}-bit {machine} system; supported are 64-bit {' and '.join(ARCHITECTURES)}",
            advice="use a 64-bit server with Debian 12 or newer",
        )
    if answer["libc"] != "glibc":
        raise ArtifactError(
            f"{where}: its C library is not glibc (Alpine and other musl systems are not supported)",
            advice="use a server with Debian 12 or newer, or Ubuntu 24.04",
        )
    if answer["implementation"] != "CPython" or _version(answer["python"]) < OLDEST_PYTHON:
        raise ArtifactError(
            f"{where}: its python3 is {answer['implementation']} {answer['python']}; "
            f"CPython {_dotted(OLDEST_PYTHON)} or newer is needed",
            advice="use Debian 12 or newer, or Ubuntu 24.04 (Debian 11 and Ubuntu 22.04 are too old)",
        )
    if _version(answer["libc_version"]) < (2, _OLDEST_MANYLINUX):
        raise ArtifactError(f"{where}: glibc {answer['libc_version']} is older than 2.{_OLDEST_MANYLINUX}")


def _version(text: str) -> tuple[int, int]:
    numbers = [int(number) for number in text.split(".")]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def _digits(version: tuple[int, int]) -> str:
    return f"{version[0]}{version[1]}"
