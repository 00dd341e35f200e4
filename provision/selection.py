"""Assignment of components to hosts, from the inventory alone."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from deploys.registry import COMPONENTS
from inventory.errors import ClawdError
from inventory.model import Inventory
from provision.assignment import Assignment


@dataclass(frozen=True, slots=True)
class Selection:
    """The part of an inventory that a run is limited to; empty means all of it."""

    hosts: tuple[str, ...] = ()
    components: tuple[str, ...] = ()


def selected_hosts(inventory: Inventory, selection: Selection) -> tuple[str, ...]:
    """Return the names of the selected hosts in file order. Raises `ClawdError` for an unknown host."""
    _check_known(selection.hosts, inventory.hosts, "--limit", "host")
    return tuple(name for name in inventory.hosts if not selection.hosts or name in selection.hosts)


def assign(inventory: Inventory, selection: Selection) -> Mapping[str, Sequence[Assignment]]:
    """Return the components of every selected host in order, each with its settings.

    Raises `ClawdError` for an unknown component.
    """
    check_components(selection)
    wanted = [item for item in COMPONENTS if not selection.components or item.name in selection.components]
    return {
        host: [
            Assignment(component, settings)
            for component in wanted
            if (settings := component.settings_for(inventory, host)) is not None
        ]
        for host in selected_hosts(inventory, selection)
    }


def check_components(selection: Selection) -> None:
    """Raise `ClawdError` for an unknown component in the selection."""
    _check_known(selection.components, [component.name for component in COMPONENTS], "--tags", "component")


def _check_known(given: Iterable[str], known: Iterable[str], option: str, kind: str) -> None:
    names = list(known)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            guess = f"did you mean {near[0]}? " if near else ""
            raise ClawdError(
                f"{option} {name}: unknown {kind}", advice=f"{guess}use one of: {', '.join(names)}"
            )
