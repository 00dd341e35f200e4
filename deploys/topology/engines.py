"""Which hosts serve a model themselves, where its file is there, and which processors compute it."""

from __future__ import annotations

from collections.abc import Mapping

from inventory.model import Inventory
from inventory.sections.models import LocalModel

MODELS_FOLDER = "/var/lib/clawd/models"
"""Folder of model files on a host."""
ENGINES_PERCENT = 75
"""Share of a host's memory that several engines may use together, in percent."""


def local_model(inventory: Inventory) -> LocalModel | None:
    """Return the first model served on the runtime hosts: by clawd-engine.service."""
    return next(iter(inventory.models.local().values()), None)


def further_models(inventory: Inventory, host: str) -> Mapping[str, LocalModel]:
    """Return the other models that `host` serves, by name: each by clawd-engine@NAME.service."""
    if "runtime" not in inventory.hosts[host].roles:
        return {}
    return dict(list(inventory.models.local().items())[1:])


def further_unit(name: str) -> str:
    """Return the unit, without its suffix, that serves the further model `name`."""
    return f"clawd-engine@{name}"


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
