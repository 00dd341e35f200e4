"""Which GGUF file a host should have, and where it lies there."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from deploys.component import ComponentSettings
from deploys.supplies import ModelFile
from inventory.errors import ClawdError
from inventory.model import Inventory, LocalModel

MODELS_FOLDER = "/var/lib/clawd/models"


class ModelSettings(ComponentSettings):
    """The model of one runtime host. The file itself comes with the supplies."""

    name: str = Field(description="What requests call the model: the file's name without `.gguf`.")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = Field(
        None, description="Digest declared in the inventory; the supplied file's own digest when none is."
    )


def settings_for(inventory: Inventory, host: str) -> ModelSettings | None:
    """The model that `host` serves itself; `None` where only servers elsewhere are asked."""
    model = local_model(inventory)
    if model is None or "runtime" not in inventory.hosts[host].roles:
        return None
    return ModelSettings(name=model.path.stem, sha256=model.sha256)


def local_model(inventory: Inventory) -> LocalModel | None:
    """The one model served on the runtime hosts, be it the default or the fallback.

    Raises ClawdError when both are local: a host runs one engine, and an engine loads one model.
    """
    both = (inventory.models.default, inventory.models.fallback)
    local = [model for model in both if isinstance(model, LocalModel)]
    if len(local) > 1:
        raise ClawdError(
            "models.default and models.fallback are both llama-cpp models, but a host runs one engine",
            advice="make one of them `engine: openai-compatible`, or leave out the fallback",
        )
    return local[0] if local else None


def model_path(file: ModelFile) -> str:
    """Where the file lies on a host.

    The digest in the name keeps a new model from overwriting the one that is being served, so both can
    be there until the engine runs on the new one.
    """
    return f"{MODELS_FOLDER}/{file.name}-{file.sha256[:12]}.gguf"
