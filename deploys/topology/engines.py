"""Which hosts serve a model themselves, where its file is there, and which processors compute it."""

from __future__ import annotations

from inventory.errors import ClawdError
from inventory.model import Inventory
from inventory.sections.models import LocalModel

MODELS_FOLDER = "/var/lib/clawd/models"
"""Folder of model files on a host."""


def local_model(inventory: Inventory) -> LocalModel | None:
    """Return the only model served on the runtime hosts.

    Raises `ClawdError` when several are local: a host runs one engine, and an engine loads one model.
    """
    local = inventory.models.local()
    if len(local) > 1:
        raise ClawdError(
            f"models {', '.join(local)} are llama-cpp models, but a host runs one engine",
            advice="make all but one of them `engine: openai-compatible`, or remove them",
        )
    return next(iter(local.values()), None)


def model_of(inventory: Inventory, host: str) -> LocalModel | None:
    """Return the model that `host` serves itself; `None` where it has no engine."""
    model = local_model(inventory)
    return model if "runtime" in inventory.hosts[host].roles else None


def may_have_gpu(inventory: Inventory, host: str) -> bool:
    """Return whether the GPUs of `host` are used, if it has any."""
    return inventory.hosts[host].gpu != "none"


def computes_on_gpu(inventory: Inventory, host: str) -> bool:
    """Return whether the engine of `host` computes on its GPUs, if it has any that CUDA supports."""
    model = model_of(inventory, host)
    return model is not None and model.gpu_layers != 0 and may_have_gpu(inventory, host)
