"""What every component is made of.

A component `NAME` lives in `deploys/NAME/`:

    __init__.py   one line of documentation, and nothing that imports pyinfra
    settings.py   frozen `Settings` and `settings_for(inventory, host) -> Settings | None`; and where there is
                  something to say: `openings_for(inventory, host)`, `needs_for(inventory, host)`, and
                  `ports_for(inventory, host)`, the TCP ports it listens on beside those it opens
    deploy.py     `apply()`, a pyinfra deploy that reads its settings from the host, and `remove()`, one that
                  needs none: it leaves nothing but data behind, and with `deploys.settings.purging()` nothing
    verify.py     testinfra checks: `test_*(host, settings)`

What `settings.py` has is pure: it says what a host should have from the inventory alone; `None` when the
component does not belong there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from inventory.model import Inventory, Network, Port


class ComponentSettings(BaseModel):
    """What one component is told about one host. Plain data keys are accepted from pyinfra too."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    purpose: str = Field("declared", pattern=r'^[^"\\\n]{1,100}$', description="Stands beside the rule.")


@dataclass(frozen=True, slots=True)
class Need:
    """What a component takes of a host, in bytes. `how` is the arithmetic, for people."""

    what: str
    memory: int = 0
    disk: int = 0
    path: str = "/"
    """Where on the host the disk space is taken."""
    gpu_memory: int = 0
    how: str = ""


@dataclass(frozen=True, slots=True)
class Component:
    """A thing that can be installed, verified and removed on a host."""

    name: str
    summary: str

    def settings_for(self, inventory: Inventory, host: str) -> ComponentSettings | None:
        """What `host` should have of this component; `None` when nothing."""
        settings: ComponentSettings | None = self._settings.settings_for(inventory, host)
        return settings

    def openings_for(self, inventory: Inventory, host: str) -> tuple[Opening, ...]:
        """The ports of `host` on which this component serves others."""
        openings = getattr(self._settings, "openings_for", None)
        return tuple(openings(inventory, host)) if openings else ()

    def needs_for(self, inventory: Inventory, host: str) -> tuple[Need, ...]:
        """What this component takes of `host`."""
        needs = getattr(self._settings, "needs_for", None)
        return tuple(needs(inventory, host)) if needs else ()

    def ports_for(self, inventory: Inventory, host: str) -> tuple[int, ...]:
        """The TCP ports of `host` that this component listens on, those on loopback too."""
        more = getattr(self._settings, "ports_for", None)
        opened = {item.port for item in self.openings_for(inventory, host) if item.protocol == "tcp"}
        return tuple(sorted(opened | set(more(inventory, host) if more else ())))

    @property
    def apply(self) -> Callable[[], Any]:
        """The pyinfra deploy that makes the current host so."""
        deploy: Callable[[], Any] = import_module(f"deploys.{self.name}.deploy").apply
        return deploy

    @property
    def remove(self) -> Callable[[], Any]:
        """The pyinfra deploy that takes it off the current host, which keeps its data unless it is purged."""
        deploy: Callable[[], Any] = import_module(f"deploys.{self.name}.deploy").remove
        return deploy

    @property
    def _settings(self) -> Any:
        return import_module(f"deploys.{self.name}.settings")
