"""Choice of the CUDA that the engine is built with and runs on, by the GPUs and the system of a host. Pure.

Everything is compiled for exactly these GPUs: code that the driver has to translate at each start of the
engine takes minutes, and needs a driver at least as new as its CUDA.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from deploys.nvidia.gpus import Gpu, GpuMachine
from inventory.errors import ClawdError

OLD_C_LIBRARY = ("debian12", "ubuntu2204", "ubuntu2404")
"""Systems with a C library older than 2.41; the headers of CUDA 12 do not compile with that version
(NVIDIA/cuda-samples issue 378). NVIDIA's repository for Debian 13 begins with CUDA 13."""
USUAL, NEWER = "12.9", "13.1"
LEAST_BRANCH = {12: 525, 13: 580}
"""The oldest driver branch that runs all of a major version (CUDA compatibility guide, minor version)."""
FOLDERS = {"amd64": "x86_64-linux", "arm64": "sbsa-linux"}

_TEXT = re.compile(r"cuda(\d+\.\d+)-([0-9a-z.]+)")


@dataclass(frozen=True, slots=True)
class Cuda:
    """A version of CUDA, such as 12.9, and the GPU architectures (`86`, `120a`) to compile for."""

    version: str
    architectures: tuple[str, ...]

    def __str__(self) -> str:
        return f"cuda{self.version}-{'.'.join(self.architectures)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the output of `str`; raise ValueError for any other text."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} names no CUDA")
        return cls(match[1], tuple(match[2].split(".")))

    @property
    def folder(self) -> str:
        """Return the folder in which NVIDIA's packages install it."""
        return f"/usr/local/cuda-{self.version}"

    @property
    def libraries(self) -> tuple[str, ...]:
        """Return the packages needed by programs that are built with it."""
        return tuple(f"{name}-{self._suffix}" for name in ("cuda-cudart", "libcublas"))

    @property
    def compiler(self) -> tuple[str, ...]:
        """Return the packages needed to build llama.cpp; none of them installs a driver."""
        names = ("cuda-nvcc", "cuda-cudart-dev", "cuda-driver-dev", "libcublas-dev")
        return tuple(f"{name}-{self._suffix}" for name in names)

    def library_path(self, architecture: str) -> str:
        """Return the folder of the libraries on a host with this architecture of dpkg."""
        return f"{self.folder}/targets/{FOLDERS[architecture]}/lib"

    @property
    def _suffix(self) -> str:
        return self.version.replace(".", "-")


def cuda_for(machine: GpuMachine, branch: int, wanted: str | None = None) -> Cuda:
    """Return the CUDA for the GPUs of `machine` with driver `branch`: `wanted`, or else the one that fits.

    Raises `ClawdError` when none does.
    """
    version = wanted or (USUAL if machine.system in OLD_C_LIBRARY else NEWER)
    major = int(version.partition(".")[0])
    if major < 13 and machine.system not in OLD_C_LIBRARY:
        raise ClawdError(
            f"CUDA {version} cannot be compiled with on {machine.system}: its headers are older than the C "
            "library",
            advice=f"leave out `nvidia.cuda`, or write {NEWER}",
        )
    for gpu in machine.gpus:
        _refuse_unknown(gpu, version, wanted, machine)
    least = LEAST_BRANCH.get(major, 0)
    if branch < least:
        raise ClawdError(
            f"CUDA {version} needs driver branch {least} or later, and {branch} is declared",
            advice=f"write `nvidia.branch: {least}`",
        )
    return Cuda(version, _architectures(machine.gpus))


def _refuse_unknown(gpu: Gpu, version: str, wanted: str | None, machine: GpuMachine) -> None:
    first, last = gpu.generation.cuda
    if not gpu.generation.architectures or _number(version) < _number(first):
        raise ClawdError(
            f"CUDA {version} does not know {gpu}",
            advice=f"leave out `nvidia.cuda`, or write {first} or later" if wanted else "write `gpu: none`",
        )
    if last and _number(version) > _number(last):
        raise ClawdError(
            f"{gpu} is known to CUDA {last} and earlier only, and {machine.system} needs {version}",
            advice=f"write `nvidia.cuda: {last}`"
            if machine.system in OLD_C_LIBRARY
            else "use Debian 12, or Ubuntu 22.04 or 24.04, for this host",
        )


def _architectures(gpus: Sequence[Gpu]) -> tuple[str, ...]:
    """Return the architectures of all generations of these GPUs, in order."""
    generations = sorted({gpu.generation.first: gpu.generation for gpu in gpus}.items())
    return tuple(name for _, generation in generations for name in generation.architectures)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split("."))) if version else ()
