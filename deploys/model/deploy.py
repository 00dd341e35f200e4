"""Puts the model's file on the host without touching the one being served."""

from __future__ import annotations

from pyinfra.api import deploy

from deploys.artifacts import ModelFile
from deploys.model.settings import ModelSettings, model_path
from deploys.model.space import require_space
from deploys.ops.paths import files, push
from deploys.ops.removal import removal
from deploys.settings import settings_of, supplies
from deploys.topology.engines import MODELS_FOLDER
from inventory.errors import ArtifactError


@deploy("Model")
def apply() -> None:
    """Install the model under a name with its digest, live only after that is verified.

    Raises `CapacityError` before anything is sent when the disk is too small. The runtime component removes
    models that no engine uses any more, once its engine runs with the new one.
    """
    settings = settings_of("model", ModelSettings)
    for model in (supplied_model(settings), *(further_model(settings, name) for name in settings.further)):
        _installed(model)


def _installed(model: ModelFile) -> None:
    path = model_path(model)
    if model.size is not None:
        require_space(path, model.size, f"model {model.name}")
    files.directory(MODELS_FOLDER)
    if model.source is not None:
        push.file(model.source, path, sha256=model.sha256)
    elif model.url is not None:
        push.fetch(model.url, path, sha256=model.sha256)
    else:
        raise ArtifactError(
            f"model {model.name} has neither a file on this machine nor a url",
            advice="declare `url` and `sha256`, or give the path of the file",
        )


@removal("model")
def remove() -> None:
    """Remove the model, whether data are purged or not: it does not count as data.

    It is a copy, identified by its digest, of a file that the laptop has or the host fetches; like a
    release and like packages it is removed with the component, and installed again with it.
    """
    files.absent(MODELS_FOLDER)
    push.forgotten(MODELS_FOLDER)


def supplied_model(settings: ModelSettings) -> ModelFile:
    """Return the model file among the laptop's supplies for these settings.

    Raises `ArtifactError` when there is none, or one with another digest than the inventory declares.
    """
    return _as_declared(supplies().model, settings.name, settings.sha256)


def further_model(settings: ModelSettings, name: str) -> ModelFile:
    """Return the file of the further model `name`; raise `ArtifactError` as `supplied_model` does."""
    declared = settings.further[name]
    return _as_declared(supplies().further_models.get(name), declared.name, declared.sha256)


def _as_declared(model: ModelFile | None, name: str, sha256: str | None) -> ModelFile:
    if model is None:
        raise ArtifactError(
            f"there is no file for model {name}",
            advice="give the host data `supplies` with a `model`, as described in deploys.artifacts",
        )
    if sha256 and sha256 != model.sha256:
        raise ArtifactError(
            f"model {name} has SHA-256 {model.sha256}, the inventory says {sha256}",
            advice="correct `sha256`, or download the file again",
        )
    return model
