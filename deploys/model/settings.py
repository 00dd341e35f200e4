"""Which GGUF file a host should have, and its path there."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated

from pydantic import Field

from deploys.artifacts import ModelFile
from deploys.component import ComponentSettings, Need
from deploys.resources import HostResources
from deploys.topology.engines import MODELS_FOLDER, computes_on_gpu, further_models, model_of
from inventory.model import Inventory
from inventory.model_files.footprint import GPU_PROCESS, of_model, size, split
from inventory.sections.models import LocalModel
from inventory.values import size_in_bytes


class FurtherModel(ComponentSettings):
    """A model that the host serves next to the first one."""

    name: str = Field(description="Name of the model in requests.")
    sha256: str | None = Field(None, description="Digest declared in the inventory.")


class ModelSettings(ComponentSettings):
    """The model of one runtime host. The file itself is part of the supplies."""

    name: str = Field(description="Name of the model in requests: the file's name without `.gguf`.")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest declared in the inventory; the supplied file's own digest when none is."
    )
    further: dict[str, FurtherModel] = Field({}, description="The other models of the host, by name.")


def settings_for(inventory: Inventory, host: str) -> ModelSettings | None:
    """Return the model that `host` serves itself; `None` where only remote servers are used."""
    model = model_of(inventory, host)
    if model is None:
        return None
    further = {
        name: FurtherModel(name=one.path.stem, sha256=one.sha256)
        for name, one in further_models(inventory, host).items()
    }
    return ModelSettings(name=model.path.stem, sha256=model.sha256, further=further)


def needs_for(inventory: Inventory, host: str, resources: HostResources) -> tuple[Need, ...]:
    """Return the engine's memory, of the GPU where it computes there, and the disk space of the file.

    The GPU counts where `gpu_memory` is declared and the host was not found to be without one.
    Before the host has fetched the file, unknown sizes are counted as the limit of the engine.
    """
    model = model_of(inventory, host)
    if model is None:
        return ()
    further = tuple(
        replace(need, what=f"{need.what} of models.{name}")
        for name, one in further_models(inventory, host).items()
        for need in _needs(inventory, host, HostResources(None, None), one)
    )
    return (*_needs(inventory, host, resources, model), *further)


def _needs(inventory: Inventory, host: str, resources: HostResources, model: LocalModel) -> tuple[Need, ...]:
    taken, what = of_model(model), f"model {model.path.stem}"
    if taken is None:
        limit = size_in_bytes(model.memory_max)
        how = f"its file is not on this machine, so its limit is counted (memory_max {model.memory_max})"
        return (Need(what, memory=limit, path=MODELS_FOLDER, how=f"{how}; its size is not known"),)
    what = f"{what} ({taken.tier} tier, {taken.parameters / 1e9:.2g}B)"
    placed = partial(Need, what, disk=taken.file_size, path=MODELS_FOLDER)
    if not inventory.hosts[host].gpu_memory or resources.gpu_memory is None:
        # Further models are always computed by the processor.
        return (placed(memory=taken.total, how=taken.how),)
    if not computes_on_gpu(inventory, host):
        why = "gpu_layers is 0" if model.gpu_layers == 0 else "the host has `gpu: none`"
        return (placed(memory=taken.total, how=f"{taken.how}; nothing in the GPU: {why}"),)
    parts = split(taken, model.gpu_layers)
    how = f"{taken.computing} in the GPU"
    if parts.gpu_layers < taken.layers:
        how += f", but for {taken.layers - parts.gpu_layers} of {taken.layers} layers ({size(parts.host)})"
    how += f"; {size(GPU_PROCESS)} for the process, {size(taken.states)} for saved states"
    host_memory = parts.host + GPU_PROCESS + taken.states
    return (placed(memory=host_memory, gpu_memory=parts.gpu, how=how),)


def model_path(file: ModelFile) -> str:
    """Return the path of the file on a host.

    The digest in the name keeps a new model from overwriting the one that is being served, so both can exist
    until the engine runs with the new one.
    """
    return f"{MODELS_FOLDER}/{file.name}-{file.sha256[:12]}.gguf"
