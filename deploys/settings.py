"""Settings of a component's deploy, read from the data of the current pyinfra host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pyinfra import host
from pyinfra.api.exceptions import DeployError

from deploys.artifacts import ModelFile, ReleaseArchive, Supplies
from deploys.component import ComponentSettings
from inventory.errors import ClawdError

S = TypeVar("S", bound=ComponentSettings)


class MissingSettingsError(ClawdError, DeployError):  # type: ignore[misc]  # untyped base
    """A host has no settings for a component; plain pyinfra prints the message too."""


class ComponentSettingsError(ClawdError, DeployError):  # type: ignore[misc]  # untyped base
    """A host's plain data is invalid for a component. The message has every wrong field, without values."""

    def __init__(self, host: str, component: str, error: ValidationError) -> None:
        wrong = (
            f"{'.'.join(map(str, (component, *found['loc'])))}: {found['msg']}"
            for found in error.errors(include_url=False, include_input=False, include_context=False)
        )
        hint = f"hint: correct the host's data `{component}`; deploys/{component}/settings.py describes it"
        # One text, because plain pyinfra prints an error's message and not its advice.
        super().__init__("\n".join((*(f"host {host}: {line}" for line in wrong), hint)))


def settings_of(name: str, cls: type[S]) -> S:
    """Return the settings of component `name` for the current host: `host.data.<name>`, typed or plain data.

    Raises `MissingSettingsError` when the host has no such data, `ComponentSettingsError` when it is invalid.
    """
    value = host.data.get(name)
    if value is None:
        raise MissingSettingsError(
            f"host {host.name} has no settings for component {name}",
            advice=f"give the host data `{name}`, as described by {cls.__module__}.{cls.__name__}",
        )
    if isinstance(value, cls):
        return value
    try:
        return cls.model_validate(value)
    except ValidationError as error:
        raise ComponentSettingsError(host.name, name, error) from None


def purging() -> bool:
    """Return whether removal of a component also deletes its data: `host.data.purge`."""
    return bool(host.data.get("purge", False))


def supplies() -> Supplies:
    """Return the supplies of the current host: `host.data.supplies`, typed or plain data.

    Without any, state is kept in `.clawd` in the working directory.
    """
    value: Supplies | Mapping[str, Any] | None = host.data.get("supplies")
    if isinstance(value, Supplies):
        return value
    return supplies_from(value or {})


def supplies_from(data: Mapping[str, Any]) -> Supplies:
    """Convert plain data, as in a pyinfra inventory, to `Supplies`."""
    release, model, overrides = data.get("release"), data.get("model"), data.get("template_overrides")
    return Supplies(
        state_folder=Path(data.get("state_folder", ".clawd")),
        release=ReleaseArchive(**{**release, "archive": Path(release["archive"])}) if release else None,
        model=_model_file(model) if model else None,
        further_models={name: _model_file(one) for name, one in data.get("further_models", {}).items()},
        template_overrides=Path(overrides) if overrides else None,
        names=tuple(data.get("names", ())),
    )


def _model_file(data: Mapping[str, Any]) -> ModelFile:
    return ModelFile(**{**data, "source": Path(data["source"]) if data.get("source") else None})
