"""Tab completion in a shell: inventories, their hosts, components.

It reads files only: it does not run commands of an inventory or decrypt anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from inventory.errors import ClawdError
from inventory.inventory_path import find, inventories

LARGEST = 1 << 20
"""Maximum size in bytes of an inventory that is read for a completion."""


def complete_inventory(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the names of inventories; the shell completes a word with a slash or a dot as a path."""
    if "/" in incomplete or incomplete.startswith("."):
        return [CompletionItem(incomplete, type="file")]
    try:
        names = inventories()
    except OSError:
        return []
    fitting = sorted(name for name in names if _fits(name, incomplete))
    return [CompletionItem(name, help=str(names[name])) for name in fitting]


def complete_host(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the hosts of the inventory that is given earlier on the line."""
    chosen = context.params.get("inventory_name")
    return _listed(_hosts(str(chosen)) if chosen else (), incomplete)


def complete_component(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the components that can be selected."""
    from deploys.registry import COMPONENTS

    return _listed((component.name for component in COMPONENTS), incomplete)


def _listed(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    """Return the names that match the part after the last comma, each with the text before it."""
    before, comma, last = incomplete.rpartition(",")
    taken = set(before.split(","))
    return [
        CompletionItem(f"{before}{comma}{name}") for name in names if _fits(name, last) and name not in taken
    ]


def _hosts(inventory: str) -> tuple[str, ...]:
    try:
        file = find(inventory)
        if file.stat().st_size > LARGEST:
            return ()
        # Tags such as !cmd are not resolved: a completion must not run commands.
        declared = YAML(typ="rt").load(Path(file))
        return tuple(str(name) for name in declared["hosts"])
    except (ClawdError, YAMLError, OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()


def _fits(name: str, incomplete: str) -> bool:
    return name.startswith(incomplete)
