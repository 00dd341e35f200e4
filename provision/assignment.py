"""A component that is assigned to a host."""

from __future__ import annotations

from dataclasses import dataclass

from deploys.component import Component, ComponentSettings


@dataclass(frozen=True, slots=True)
class Assignment:
    """One component with its settings on one host; `None` when it is to be removed."""

    component: Component
    settings: ComponentSettings | None
    only_data: bool = False
    """Whether it was removed before, and only its data is left."""
