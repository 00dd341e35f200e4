"""The parts of every component.

A component `NAME` lives in `deploys/NAME/`:

    __init__.py   one line of documentation, and nothing that imports pyinfra
    settings.py   frozen `Settings` and `settings_for(inventory, host) -> Settings | None`; where they apply,
                  also `openings_for(inventory, host)`, `needs_for(inventory, host, resources)`,
                  and `ports_for(inventory, host)`, the TCP ports it listens on in addition to those it opens
    deploy.py     `apply()`, a pyinfra deploy that reads its settings from the host, and `remove()`, one that
                  needs none: it leaves only data behind, and with `deploys.settings.purging()` nothing
    verify.py     testinfra checks: `test_*(host, settings)`

The functions in `settings.py` are pure: they derive what a host should have from the inventory alone (its
needs also from the resources of the host), and return `None` when the component does not belong there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deploys.resources import HostResources
from inventory.model import Inventory
from inventory.types import Network, Port


class ComponentSettings(BaseModel):
    """The settings of one component on one host. Plain data from pyinfra is accepted too."""

    model_config = ConfigDict(frozen=True, extra="forbid")


MACHINE_ROOT = Field("", description="Folder in front of /sys, /proc and /run, to present another machine.")
"""The field of every component that reads GPUs, by which others can be presented."""


class Opening(ComponentSettings):
    """A port of a host that the firewall lets in."""

    port: Port
    protocol: Literal["tcp", "udp"] = "tcp"
    sources: tuple[str, ...] = Field(
        (), description="Networks, addresses or host names; everyone when empty."
    )
    connections: int | None = Field(
        None, description="That one client may have open; an IPv6 client is its network of 64 bits."
    )
    unlimited: tuple[Network, ...] = Field((), description="Networks that many clients share: no such limit.")
    purpose: str = Field("declared", pattern=r'^[^"\\\n]{1,100}$', description="Comment of the rule.")


@dataclass(frozen=True, slots=True)
class Need:
    """Resources that a component needs on a host, in bytes. `how` shows the calculation to people."""

    what: str
    memory: int = 0
    disk: int = 0
    path: str = "/"
    """The folder of the host in which the disk space is used."""
    gpu_memory: int = 0
    how: str = ""


@dataclass(frozen=True, slots=True)
class Component:
    """A thing that can be installed, verified and removed on a host."""

    name: str
    summary: str

    def settings_for(self, inventory: Inventory, host: str) -> ComponentSettings | None:
        """Return the settings of this component for `host`; `None` when it does not belong there."""
        settings: ComponentSettings | None = self._settings.settings_for(inventory, host)
        return settings

    def openings_for(self, inventory: Inventory, host: str) -> tuple[Opening, ...]:
        """Return the ports of `host` on which this component serves other hosts."""
        openings = getattr(self._settings, "openings_for", None)
        return tuple(openings(inventory, host)) if openings else ()

    def needs_for(self, inventory: Inventory, host: str, resources: HostResources) -> tuple[Need, ...]:
        """Return what this component needs on `host`, which has `resources`."""
        needs = getattr(self._settings, "needs_for", None)
        return tuple(needs(inventory, host, resources)) if needs else ()

    def ports_for(self, inventory: Inventory, host: str) -> tuple[int, ...]:
        """Return the TCP ports that this component listens on at `host`, including those on loopback."""
        more = getattr(self._settings, "ports_for", None)
        opened = {item.port for item in self.openings_for(inventory, host) if item.protocol == "tcp"}
        return tuple(sorted(opened | set(more(inventory, host) if more else ())))

    @property
    def apply(self) -> Callable[[], Any]:
        """Return the pyinfra deploy that installs and configures the component on the current host."""
        deploy: Callable[[], Any] = import_module(f"deploys.{self.name}.deploy").apply
        return deploy

    @property
    def remove(self) -> Callable[[], Any]:
        """Return the pyinfra deploy that removes the component; data stay unless purged."""
        deploy: Callable[[], Any] = import_module(f"deploys.{self.name}.deploy").remove
        return deploy

    @property
    def _settings(self) -> Any:
        return import_module(f"deploys.{self.name}.settings")
