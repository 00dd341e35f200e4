"""The section `nvidia` of an inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from inventory.types import Declared, RepositoryUrl


class Nvidia(Declared):
    """Drivers and container toolkit of hosts whose `gpu` is `auto` or `required`."""

    branch: Annotated[int, Field(ge=550, le=999)] = Field(
        580,
        description="Driver branch, which never changes automatically; 580 is the last for GPUs before "
        "Turing.",
    )
    modules: Literal["auto", "open", "proprietary"] = Field(
        "auto",
        description="Kind of kernel modules; `auto` uses open ones for Turing and later, else proprietary "
        "ones.",
    )
    repository: RepositoryUrl = Field(
        "https://developer.download.nvidia.com/compute/cuda/repos",
        description="URL of NVIDIA's repository or a mirror; /debian12/x86_64 or similar is appended.",
    )
    key: Path | None = Field(
        None, description="Path of that repository's public key; required if a host has a `gpu`."
    )
    toolkit_repository: RepositoryUrl = Field(
        "https://nvidia.github.io/libnvidia-container/stable/deb",
        description="URL of the container toolkit's repository or a mirror; /amd64 or similar is appended.",
    )
    toolkit_key: Path | None = Field(
        None, description="Path of that repository's public key; required for containers on hosts with a GPU."
    )
    toolkit_version: Annotated[str, Field(pattern=r"^[0-9][0-9A-Za-z.+~-]*$")] = Field(
        "1.18.0-1", description="Version of the four packages of the container toolkit."
    )
    cuda: Annotated[str, Field(pattern=r"^1[2-9]\.[0-9]$")] | None = Field(
        None,
        description="CUDA version of `repository` for building and running the engine, such as 12.9; when "
        "absent, chosen by the host's release and GPUs.",
    )
    reboot: Literal["ask", "auto", "never"] = Field(
        "ask",
        description="What happens when a driver requires a reboot: `ask` ends the run on that host with a "
        "message, `auto` reboots, `never` continues, and `verify` reports it until the host is rebooted.",
    )
