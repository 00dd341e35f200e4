"""The one place where driver and CUDA of a host are chosen, for what is built and what is installed. Pure.

`driver` knows which kernel modules a machine takes, `cuda` which CUDA its GPUs and its system do.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploys.nvidia.cuda import Cuda, cuda_for
from deploys.nvidia.driver import driving
from deploys.nvidia.gpus import GpuMachine, Modules
from deploys.nvidia.settings import NvidiaSettings
from inventory.errors import ClawdError, HostError


@dataclass(frozen=True, slots=True)
class NvidiaChoice:
    """What a host with GPUs gets: kernel modules and, where its engine computes on them, a CUDA."""

    modules: Modules
    cuda: Cuda | None


def choose(host: str, machine: GpuMachine, settings: NvidiaSettings) -> NvidiaChoice:
    """Return what `host` gets. Raise `HostError` when no driver fits, or no CUDA for its engine."""
    try:
        modules = driving(machine, settings.branch, settings.modules)
    except ClawdError as error:
        raise HostError(f"{host}: {error.message}", advice=error.advice) from error
    cuda = engine_cuda(host, machine, settings.branch, settings.cuda) if settings.engine else None
    return NvidiaChoice(modules, cuda)


def engine_cuda(host: str, machine: GpuMachine, branch: int, wanted: str | None) -> Cuda:
    """Return the CUDA of the engine of `host`. Raise `HostError` when none fits."""
    try:
        return cuda_for(machine, branch, wanted)
    except ClawdError as error:
        raise HostError(f"{host}: {error.message}", advice=error.advice) from error
