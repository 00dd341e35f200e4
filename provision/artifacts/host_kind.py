"""The kind of host that an artifact is built for: architecture, Python, C library."""

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
"""glibc 2.17: the oldest C library that current binary wheels support (manylinux2014, PEP 599)."""

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
"""A POSIX shell command that prints one line for `HostKind.from_probe`."""

_ANSWER = re.compile(
    r"^clawd-kind (?P<machine>\S+) (?P<bits>\d+) (?P<implementation>\S+) (?P<python>\d+\.\d+)"
    r" (?P<libc>\S+) (?P<libc_version>[\d.]+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True, order=True)
class HostKind:
    """A kind of host; hosts of one kind run the same release.

    `python` and `libc_version` are (major, minor). Only CPython on glibc is supported. `cuda` is the CUDA
    version and the GPUs that the engine is built for (`deploys.nvidia.cuda.Cuda`); empty for CPUs only.
    `cpu` is the variant of llama.cpp for the only processor that the host has (`engine.variants`), which is
    known of hosts on this machine; empty where the engine must have all variants.
    """

    architecture: str
    python: tuple[int, int]
    libc_version: tuple[int, int]
    libc: str = "glibc"
    cuda: str = ""
    cpu: str = ""

    def __str__(self) -> str:
        name = f"{self.architecture}-cp{_digits(self.python)}-{self.libc}{_dotted(self.libc_version)}"
        return "-".join(filter(None, (name, self.cuda, self.cpu)))

    @classmethod
    def from_probe(cls, output: str, *, where: str) -> HostKind:
        """Return the kind from the output of `PROBE` on the host `where`.

        Raises `ArtifactError` when such a host is not supported.
        """
        if re.search(r"^clawd-kind \S+ no-python$", output, re.MULTILINE):
            raise ArtifactError(
                f"{where}: python3 is missing, which the bot and the engine need",
                advice=f"run `apt-get install --no-install-recommends python3` on {where}",
            )
        match = _ANSWER.search(output)
        if match is None:
            raise ArtifactError(
                f"{where}: cannot determine the kind of host from {output[-200:]!r}",
                advice="log in and check that `python3 --version` prints only a version",
            )
        _refuse_unsupported(match, where)
        return cls(match["machine"], _version(match["python"]), _version(match["libc_version"]))

    @classmethod
    def of_this_machine(cls) -> HostKind | None:
        """Return the kind of the machine that runs this program, with the Python that runs it.

        The result is `None` when hosts of that kind are not supported.
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
        """Return whether an engine built on `other` serves here.

        It has the same architecture and CUDA, a C library that is not newer, and all variants for processors
        or the one of this host.
        """
        return (
            (self.architecture, self.libc, self.cuda) == (other.architecture, other.libc, other.cuda)
            and other.cpu in {"", self.cpu}
            and self.libc_version >= other.libc_version
        )

    def to_json(self) -> dict[str, object]:
        """Return plain values for files."""
        return {
            "architecture": self.architecture,
            "libc": self.libc,
            "libc_version": list(self.libc_version),
            "python": list(self.python),
            **({"cuda": self.cuda} if self.cuda else {}),
            **({"cpu": self.cpu} if self.cpu else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> HostKind:
        """Return the kind from `to_json` values. Raises `KeyError`, `TypeError` or `ValueError`."""
        (python_major, python_minor), (libc_major, libc_minor) = values["python"], values["libc_version"]
        return cls(
            values["architecture"],
            (int(python_major), int(python_minor)),
            (int(libc_major), int(libc_minor)),
            values["libc"],
            str(values.get("cuda", "")),
            str(values.get("cpu", "")),
        )

    @property
    def platforms(self) -> tuple[str, ...]:
        """Return the platform tags of wheels that run here, best first (PEP 600 and older aliases)."""
        major, minor = self.libc_version
        tags = [f"manylinux_{major}_{n}_{self.architecture}" for n in range(minor, _OLDEST_MANYLINUX - 1, -1)]
        return (*tags, f"manylinux2014_{self.architecture}")

    @property
    def pip_options(self) -> tuple[str, ...]:
        """Return options with which pip chooses wheels for this kind instead of for the laptop."""
        platforms = [option for tag in self.platforms for option in ("--platform", tag)]
        return (
            *platforms,
            "--python-version", _dotted(self.python),
            "--implementation", "cp",
            "--abi", f"cp{_digits(self.python)}",
        )  # fmt: skip

    @property
    def marker_environment(self) -> dict[str, str]:
        """Return the variables of environment markers on such a host (PEP 508); all are set."""
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
            f"{where}: {bits}-bit {machine} is not supported: only 64-bit {' and '.join(ARCHITECTURES)} are",
            advice="use a 64-bit server with Debian 12 or newer",
        )
    if answer["libc"] != "glibc":
        raise ArtifactError(
            f"{where}: its C library is not supported: only glibc is, not musl (Alpine)",
            advice="use a server with Debian 12 or newer, or Ubuntu 24.04",
        )
    if answer["implementation"] != "CPython" or _version(answer["python"]) < OLDEST_PYTHON:
        raise ArtifactError(
            f"{where}: its python3 is {answer['implementation']} {answer['python']}: "
            f"CPython {_dotted(OLDEST_PYTHON)} or newer is required",
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
