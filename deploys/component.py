"""What every component is made of.

A component `NAME` lives in `deploys/NAME/`:

    __init__.py   one line of documentation, and nothing that imports pyinfra
    settings.py   frozen `Settings` and `settings_for(inventory, host) -> Settings | None`
    deploy.py     `apply()` (and `remove()`), pyinfra deploys that read their settings from the host
    verify.py     testinfra checks: `test_*(host, settings)`

`settings_for` is pure: it says what a host should have from the inventory alone, and `None` when the
component does not belong there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from pydantic import BaseModel, ConfigDict

from inventory.model import Inventory


class ComponentSettings(BaseModel):
    """What one component is told about one host. Plain data keys are accepted from pyinfra too."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True, slots=True)
class Component:
    """A thing that can be installed and verified on a host."""

    name: str
    summary: str

    def settings_for(self, inventory: Inventory, host: str) -> ComponentSettings | None:
        """What `host` should have of this component; `None` when nothing."""
        module = import_module(f"deploys.{self.name}.settings")
        settings: ComponentSettings | None = module.settings_for(inventory, host)
        return settings

    @property
    def apply(self) -> Callable[[], Any]:
        """The pyinfra deploy that makes the current host so."""
        deploy: Callable[[], Any] = import_module(f"deploys.{self.name}.deploy").apply
        return deploy
