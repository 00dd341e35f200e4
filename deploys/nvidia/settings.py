"""Settings of hosts with an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from deploys.component import MACHINE_ROOT, ComponentSettings, Need
from deploys.nvidia.gpus import GpuMachine
from deploys.resources import HostResources
from deploys.topology.containers import has_docker, runs_containers
from deploys.topology.engines import computes_on_gpu
from inventory.model import Inventory
from inventory.types import RepositoryUrl

# By the documents: 0.9 GB of packages, 0.4 GB of compiler and headers, and space to build the modules.
DISK = 3 * 1024**3
LIBRARIES = 1024**3
"""Approximate size of libcublas, libcublasLt and libcudart of CUDA 12.9 unpacked, by the documents."""


ARCHITECTURES = {"amd64": "x86_64", "arm64": "sbsa"}
"""Folders of NVIDIA's repository by dpkg's name of the architecture."""


class NvidiaSettings(ComponentSettings):
    """Driver and container toolkit of one host."""

    gpu: Literal["auto", "required"] = "auto"
    branch: int = 580
    modules: Literal["auto", "open", "proprietary"] = "auto"
    repository: RepositoryUrl = "https://developer.download.nvidia.com/compute/cuda/repos"
    key: Path | None = Field(None, description="On the laptop.")
    toolkit: bool = Field(False, description="Whether containers get the GPU.")
    toolkit_repository: RepositoryUrl = "https://nvidia.github.io/libnvidia-container/stable/deb"
    toolkit_key: Path | None = Field(None, description="On the laptop.")
    toolkit_version: str = "1.18.0-1"
    reboot: Literal["ask", "auto", "never"] = "ask"
    cuda: str | None = Field(None, description="CUDA version; chosen by release and GPUs when absent.")
    engine: bool = Field(False, description="Whether the engine computes on the GPU.")
    containers: bool = Field(False, description="Whether engine and bot run in containers.")
    root: str = MACHINE_ROOT


def settings_for(inventory: Inventory, host: str) -> NvidiaSettings | None:
    """Return the driver's settings, where `host` may or must have a GPU."""
    gpu = inventory.hosts[host].gpu
    if gpu == "none":
        return None
    nvidia = inventory.nvidia
    return NvidiaSettings(
        gpu=gpu,
        branch=nvidia.branch,
        modules=nvidia.modules,
        repository=nvidia.repository,
        key=nvidia.key,
        toolkit=has_docker(inventory, host),
        toolkit_repository=nvidia.toolkit_repository,
        toolkit_key=nvidia.toolkit_key,
        toolkit_version=nvidia.toolkit_version,
        reboot=nvidia.reboot,
        cuda=nvidia.cuda,
        engine=computes_on_gpu(inventory, host),
        containers=runs_containers(inventory, host),
    )


def repository_uri(settings: NvidiaSettings, machine: GpuMachine) -> str:
    """Return the URL of NVIDIA's packages for `machine`, whose architecture is in `ARCHITECTURES`."""
    return f"{settings.repository}/{machine.system}/{ARCHITECTURES[machine.architecture]}"


def needs_for(inventory: Inventory, host: str, _resources: HostResources) -> tuple[Need, ...]:
    """Return the space for the driver, where a GPU is required; other hosts are not checked for it."""
    if inventory.hosts[host].gpu != "required":
        return ()
    how = "packages 0.9 GB, compiler and headers 0.4 GB, building modules 1.7 GB"
    driver = Need("NVIDIA driver", disk=DISK, how=how)
    if not computes_on_gpu(inventory, host):
        return (driver,)
    copies = 2 if inventory.runtime.run_with == "docker" else 1
    how = "libcublas and libcudart 1 GB" + (", once more in the image" if copies > 1 else "")
    return driver, Need("CUDA libraries", disk=copies * LIBRARIES, how=how)
