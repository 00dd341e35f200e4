"""Choice of kernel modules for a machine, and whether its kernel would accept them. Pure."""

from __future__ import annotations

from typing import Literal

from deploys.nvidia.gpus import GpuMachine, Modules, modules_for
from deploys.nvidia.settings import ARCHITECTURES
from inventory.errors import ClawdError

PACKAGES: dict[Modules, str] = {"open": "nvidia-open", "proprietary": "cuda-drivers"}
"""NVIDIA's metapackages; the same for Debian and Ubuntu (docs.nvidia.com, driver installation guide)."""


def driving(machine: GpuMachine, branch: int, wanted: Literal["auto", "open", "proprietary"]) -> Modules:
    """Return the modules of driver `branch` for the GPUs of `machine`.

    Raises `ClawdError` when none fit, when the kernel's headers, needed to build them, are not available, and
    when Secure Boot would refuse modules that are built on the host.
    """
    modules = modules_for(machine.gpus, branch, wanted)
    if machine.secure_boot and not _stays(machine, modules, branch):
        now = f"; {machine.loaded} is loaded, and would be gone at the next boot" if machine.loaded else ""
        raise ClawdError(
            f"Secure Boot is on, and its kernel refuses modules that are built on the host{now}",
            advice="turn Secure Boot off in the firmware, or enrol a key with `mokutil` and install "
            f"{PACKAGES[modules]} of branch {branch} by hand; once it is loaded, a run continues",
        )
    if machine.headers == "missing":
        kernel = "linux-image-" + ("generic" if machine.system.startswith("ubuntu") else machine.architecture)
        raise ClawdError(
            f"modules are built for the kernel that runs, {machine.kernel}, and its package sources have no "
            f"linux-headers-{machine.kernel}",
            advice=f"have the host run the kernel of its release (`apt-get install {kernel}`, then reboot), "
            f"and run again; headers of a kernel of your own belong into /lib/modules/{machine.kernel}/build",
        )
    if machine.architecture not in ARCHITECTURES:
        raise ClawdError(f"NVIDIA has no driver for {machine.architecture}", advice="write `gpu: none`")
    return modules


def headers(machine: GpuMachine) -> tuple[str, ...]:
    """Return the packages of kernel headers: for the running kernel, and for later ones.

    Without the latter the driver would be missing after an update of the kernel.
    """
    running = () if machine.headers == "folder" else (f"linux-headers-{machine.kernel}",)
    return *running, *(name.replace("linux-image-", "linux-headers-") for name in machine.kernels)


def _stays(machine: GpuMachine, modules: Modules, branch: int) -> bool:
    """Return whether the kernel runs exactly the wanted modules, so that none are built."""
    there = machine.installed.split(".")[0] == str(branch) and machine.package == PACKAGES[modules]
    return bool(machine.loaded) and there
