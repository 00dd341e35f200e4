"""Settings of hosts with an NVIDIA GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from deploys.component import ComponentSettings, Need
from deploys.model.settings import computes_on_gpu, local_model
from deploys.nvidia.gpus import GpuMachine
from deploys.resources import HostResources
from inventory.model import Inventory
from inventory.types import RepositoryUrl

# By the documents: 0.9 GB of packages, 0.4 GB of compiler and headers, and space to build the modules.
DISK = 3 * 1024**3
LIBRARIES = 1024**3
"""Approximate size of libcublas, libcublasLt and libcudart of CUDA 12.9 unpacked, by the documents."""

ROOT = Field("", description="Folder in front of /sys, /proc and /run, to present another machine.")
"""The field of every component that reads GPUs, by which others can be presented."""


ARCHITECTURES = {"amd64": "x86_64", "arm64": "sbsa"}
"""Folders of NVIDIA's repository by dpkg's name of the architecture."""


class EngineGpu(ComponentSettings):
    """How the engine of a host computes on its GPUs, if any are found."""

    branch: int = 580
    cuda: str | None = Field(None, description="CUDA version; chosen by release and GPUs when absent.")
    layers: int | None = Field(None, description="Layers that GPUs compute; all when absent.")
    root: str = ROOT


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
    root: str = ROOT


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
        toolkit=_has_docker(inventory, host),
        toolkit_repository=nvidia.toolkit_repository,
        toolkit_key=nvidia.toolkit_key,
        toolkit_version=nvidia.toolkit_version,
        reboot=nvidia.reboot,
        cuda=nvidia.cuda,
        engine=computes_on_gpu(inventory, host),
        containers=inventory.runtime.run_with == "docker" and "runtime" in inventory.hosts[host].roles,
    )


def repository_uri(settings: NvidiaSettings, machine: GpuMachine) -> str:
    """Return the URL of NVIDIA's packages for `machine`, whose architecture is in `ARCHITECTURES`."""
    return f"{settings.repository}/{machine.system}/{ARCHITECTURES[machine.architecture]}"


def engine_gpu(inventory: Inventory, host: str) -> EngineGpu | None:
    """Return how the engine of `host` computes on GPUs; `None` where it uses only processors."""
    model = local_model(inventory)
    if model is None or not computes_on_gpu(inventory, host):
        return None
    return EngineGpu(branch=inventory.nvidia.branch, cuda=inventory.nvidia.cuda, layers=model.gpu_layers)


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


def _has_docker(inventory: Inventory, host: str) -> bool:
    # Imported late: Docker's settings import ours.
    from deploys.docker.settings import needed

    enabled = inventory.docker.enabled
    return needed(inventory, host) if enabled is None else enabled
