"""NVIDIA drivers, as declared."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from inventory.declared import Declared, Repository


class Nvidia(Declared):
    """Drivers and container toolkit of the hosts whose `gpu` is `auto` or `required`."""

    branch: Annotated[int, Field(ge=550, le=999)] = Field(
        580, description="Driver branch; no other is taken by itself. 580 is the last for old GPUs."
    )
    modules: Literal["auto", "open", "proprietary"] = Field(
        "auto", description="Kernel modules; `auto` is open for Turing and later, proprietary before."
    )
    repository: Repository = Field(
        "https://developer.download.nvidia.com/compute/cuda/repos",
        description="NVIDIA's repository or a mirror; /debian12/x86_64 and the like is added.",
    )
    key: Path | None = Field(
        None, description="File with that repository's public key; required where a host has `gpu`."
    )
    toolkit_repository: Repository = Field(
        "https://nvidia.github.io/libnvidia-container/stable/deb",
        description="Repository of the container toolkit or a mirror; /amd64 and the like is added.",
    )
    toolkit_key: Path | None = Field(
        None, description="File with that repository's public key; required where Docker is used with a GPU."
    )
    toolkit_version: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+~-]*$")] = Field(
        "1.18.0-1", description="Version of the four packages of the container toolkit."
    )
    cuda: Annotated[str, Field(pattern=r"^1[2-9]\.[0-9]$")] | None = Field(
        None,
        description="CUDA that the engine is built with, and whose libraries it uses, such as 12.9; by the "
        "host's release and GPUs when absent. From `repository`.",
    )
    reboot: Literal["ask", "auto", "never"] = Field(
        "ask",
        description="When a driver needs a reboot: `ask` ends that host's run and says so, `auto` reboots, "
        "`never` goes on, and `verify` tells until it is done.",
    )
