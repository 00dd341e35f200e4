"""Whether the current host has GPUs, for every component that depends on it."""

from __future__ import annotations

from pyinfra import host

from deploys.nvidia.gpus import GpuMachine, GpuMachineFact


def machine(root: str) -> GpuMachine:
    """Return GPUs and driver of the current host, or of the one presented below `root`."""
    found: GpuMachine = host.get_fact(GpuMachineFact, root=root)
    return found


def has_gpu(root: str) -> bool:
    """Return whether it has an NVIDIA GPU, for which the component nvidia installs a driver."""
    return bool(machine(root).gpus)
