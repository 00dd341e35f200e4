"""Loading of an inventory: a YAML file becomes the typed model, or a list of all its mistakes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from inventory import rules
from inventory.errors import ClawdError, InventoryError, Mistake, SecretError
from inventory.local_files import certificates, contents, policy
from inventory.model import Inventory
from inventory.public_view import digest, public_view
from inventory.reading.error_messages import Wrong, wrongs
from inventory.reading.schema_walk import Spot, leaves
from inventory.reading.source import KeyPath, Source, Tagged, dotted
from inventory.reading.text import is_utf8
from inventory.reading.yaml_source import read
from inventory.rule_findings import InventoryRule
from inventory.secrets import SecretReader, expand_home

__all__ = ["PLACEHOLDER", "LoadedInventory", "digest", "load", "public_view"]

PLACEHOLDER = "unresolved-secret-unresolved-secret"
"""The value of every secret when secrets are not resolved."""


@dataclass(frozen=True)
class LoadedInventory:
    """An inventory and its file. Paths in it are absolute.

    `as_written` is the inventory of the file where `inventory` differs from it, because addresses were looked
    up in the user's `~/.ssh/config`.
    """

    inventory: Inventory
    path: Path
    source: Source | None = None
    """The content of the file with positions; secrets are references only."""
    as_written: Inventory | None = None
    warnings: tuple[Mistake, ...] = ()
    """What may not work, in the order of the file."""

    def place(self, at: tuple[KeyPath, ...]) -> str:
        """Return `file:line:column` of the first of these key paths in the file; empty without a file."""
        if self.source is None:
            return ""
        source = self.source
        path = next((path for path in at if source.has(path)), at[-1])
        where = source.place(path)
        return f"{source.file}:{where.line}:{where.column}"

    @property
    def declared(self) -> Inventory:
        """Return the inventory as the file declares it."""
        return self.as_written or self.inventory

    @property
    def folder(self) -> Path:
        """Return the folder of the file, to which paths in it are relative."""
        return self.path.parent

    @property
    def state_folder(self) -> Path:
        """Return the folder of the project's certificate authority; it must be created with mode 0700."""
        return self.folder / ".clawd" / self.inventory.project


def load(path: Path, resolve_secrets: bool = True, more: tuple[InventoryRule, ...] = ()) -> LoadedInventory:
    """Load the inventory file at `path` and check it with the rules of inventories and `more` rules.

    With `resolve_secrets` false only the file itself is read: secrets become `PLACEHOLDER`, and files that it
    names need not exist. Raises `InventoryError` with all mistakes, `ClawdError` when the file cannot be
    read.
    """
    absolute = _absolute(path)
    if not is_utf8(str(absolute)):
        raise ClawdError(f"{path} is in a folder whose name is not UTF-8", advice="rename the folder")
    source = read(absolute, str(path))
    reader = SecretReader(absolute.parent) if resolve_secrets else None
    data, early = _fill_in(source, absolute.parent, reader)
    inventory, found, pruned = _validate(data)
    mistakes = [*source.mistakes, *(wrong.at(source) for wrong in early)]
    settled = [*source.mistaken, *(wrong.path for wrong in early)]
    mistakes += [wrong.at(source) for wrong in found if not _within(wrong.path, settled)]
    checks = rules.RULES + more
    if resolve_secrets:
        checks += (*rules.secrets.RULES, contents.files, certificates.provided, policy.policy)
    broken = list(_broken_rules(inventory, checks, source, [*pruned, *settled]))
    mistakes += [mistake for mistake, is_warning in broken if not is_warning]
    if mistakes:
        raise InventoryError(tuple(set(mistakes)))
    warnings = {mistake for mistake, is_warning in broken if is_warning}
    return LoadedInventory(inventory, absolute, source, warnings=tuple(sorted(warnings)))


def _fill_in(source: Source, folder: Path, reader: SecretReader | None) -> tuple[Any, list[Wrong]]:
    """Return the file's data with secrets resolved and paths absolute; without `reader`, placeholders."""
    data, found = deepcopy(source.data), []
    for path, spot, value in leaves(Inventory, source.data):
        if path in source.mistaken:
            _put(data, path, PLACEHOLDER)
            continue
        try:
            filled = _filled(path, spot, value, folder, reader)
        except SecretError as error:
            found.append(Wrong(path, error.message, error.advice))
            filled = PLACEHOLDER
        _put(data, path, filled)
    return data, found


def _filled(path: KeyPath, spot: Spot | None, value: Any, folder: Path, reader: SecretReader | None) -> Any:
    if spot is not None and spot.is_secret and value is not None:
        if isinstance(value, Tagged):
            return reader.read(value) if reader else PLACEHOLDER
        raise SecretError(
            f"`{dotted(path)}` is a secret in plain text",
            advice="use !age, !env NAME, !cmd COMMAND or !file PATH, and rotate the secret if others saw it",
        )
    if isinstance(value, Tagged):
        if spot is None:
            return ""
        raise SecretError(
            f"`{dotted(path)}` is not a secret: {value.tag} is for secrets only", advice="write the value"
        )
    if spot is not None and spot.is_a(Path) and isinstance(value, str) and value:
        whole = str(_absolute(folder / expand_home(value)))
        if not is_utf8(whole):
            raise SecretError(
                f"`{dotted(path)}` is in a folder whose name is not UTF-8", advice="rename the folder"
            )
        return whole
    return value


def _validate(data: Any) -> tuple[Inventory, list[Wrong], list[KeyPath]]:
    """Return the inventory, its mistakes, and the key paths that were dropped or filled in because of them.

    A mistaken value is replaced by its default, so that the rules can check everything else.
    """
    inventory, errors = _attempt(data)
    found = list(wrongs(errors, data, Inventory))
    pruned: list[KeyPath] = []
    rest = deepcopy(data)
    while inventory is None:
        known = len(pruned)
        for wrong in list(wrongs(errors, rest, Inventory)):
            path = _smallest_to_drop(wrong)
            if path and not _within(path, pruned):
                pruned.append(path)
                _drop(rest, path)
        for key in _STAND_INS.keys() - rest.keys():
            pruned.append((key,))
            rest[key] = _STAND_INS[key]
        if len(pruned) == known:
            raise AssertionError(
                f"validation errors without a path to drop: {[error['type'] for error in errors]}"
            )
        inventory, errors = _attempt(rest)
    return inventory, found, pruned


_STAND_INS: dict[str, Any] = {
    "hosts": {"unknown": {"address": "unknown.invalid"}},
    "models": {"default": {"engine": "openai-compatible", "endpoint": "https://unknown.invalid"}},
}


def _attempt(data: Any) -> tuple[Inventory | None, list[ErrorDetails]]:
    # Strict validation from JSON: "22" is not a number, but lists become tuples, strings paths and networks.
    try:
        return Inventory.model_validate_json(json.dumps(data), strict=True), []
    except ValidationError as error:
        return None, error.errors(include_url=False)


def _smallest_to_drop(wrong: Wrong) -> KeyPath:
    """Return what to drop to remove a mistake: the mapping that lacks a key, the whole of a list."""
    path = wrong.path[:-1] if wrong.missing else wrong.path
    for length, key in enumerate(path):
        if isinstance(key, int):
            return path[:length]
    return path


def _broken_rules(
    inventory: Inventory, checks: Iterable[InventoryRule], source: Source, mistaken: list[KeyPath]
) -> Iterator[tuple[Mistake, bool]]:
    """Yield each mistake that a rule finds, and whether it is a warning only."""
    for finding in chain.from_iterable(check(inventory) for check in checks):
        if any(_within(path, mistaken) for path in finding.at):
            continue
        if any(_touches(path, mistaken) for path in finding.depends_on):
            continue
        at = next((path for path in finding.at if source.has(path)), finding.at[-1])
        yield Wrong(at, finding.problem, finding.advice).at(source), finding.is_warning


def _within(path: KeyPath, mistaken: Iterable[KeyPath]) -> bool:
    """Return whether `path` is a mistaken value or a part of one."""
    return any(path[: len(wrong)] == wrong for wrong in mistaken)


def _touches(path: KeyPath, mistaken: Iterable[KeyPath]) -> bool:
    """Return whether `path`, with `*` for any key, is part of a mistaken value or contains one."""
    return any(
        all(one in (other, "*") for one, other in zip(path, wrong, strict=False)) for wrong in mistaken
    )


def _absolute(path: Path) -> Path:
    """Return `path` without `..`, keeping a link at its end: model caches link `x.gguf` to another name."""
    return Path(os.path.realpath(path.parent)) / path.name


def _put(data: Any, path: KeyPath, value: Any) -> None:
    for key in path[:-1]:
        data = data[key]
    if path:
        data[path[-1]] = value


def _drop(data: Any, path: KeyPath) -> None:
    for key in path[:-1]:
        data = data[key]
    del data[path[-1]]
