"""Whether the current host has GPUs: asked in one way by every component that does something about them."""

from __future__ import annotations

from pyinfra import host

from deploys.nvidia.gpus import Machine, MachineFact


def machine(root: str) -> Machine:
    """GPUs and driver of the current host, or of the one presented below `root`."""
    found: Machine = host.get_fact(MachineFact, root=root)
    return found


def has_gpu(root: str) -> bool:
    """Whether it has a GPU of NVIDIA, which the component nvidia makes usable."""
    return bool(machine(root).gpus)
