"""What is no longer used, removed from the host."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.changes import Change, operation, record
from deploys.ops.facts import Fact
from deploys.ops.shell import assignments, script

KEPT_RELEASES = 3
RELEASE = re.compile(r"[0-9a-f]{16}")


def only(folder: str, names: Collection[str], **arguments: Any) -> OperationMeta:
    """Nothing in `folder` but these names; a missing folder has nothing in it."""
    arguments.setdefault("name", f"Clear {folder}")
    return _only(folder, tuple(sorted(names)), **arguments)


def releases(folder: str, current: str, new: str, **arguments: Any) -> OperationMeta:
    """The newest releases in `folder`, `KEPT_RELEASES` with `new`; what the link `current` points at stays.

    To be called while `current` still points at the release before, so that there is one to go back to.
    """
    arguments.setdefault("name", f"Clear {folder}")
    return _releases(folder, current, new, **arguments)


@dataclass(frozen=True, slots=True)
class Entries:
    """Names in a folder, the one changed last first, and the name that a link points at (or empty)."""

    names: tuple[str, ...] = ()
    linked: str = ""


class EntriesFact(Fact):
    """Names in a folder by age, hidden ones too."""

    def command(self, folder: str, link: str = "") -> str:
        """A script that prints the link's target, then the names."""
        return assignments(folder=folder, link=link) + _ENTRIES

    @staticmethod
    def default() -> Entries:
        """Nothing there."""
        return Entries()

    def process(self, output: list[str]) -> Entries:
        """Turn the script's lines into `Entries`."""
        return Entries(tuple(output[1:]), output[0].removeprefix("link="))


_ENTRIES = r"""
printf 'link=%s\n' "$([ -z "$link" ] || basename "$(readlink "$link")")"
[ ! -d "$folder" ] || ls -1At "$folder"
"""


def outdated(entries: Entries, new: str) -> tuple[str, ...]:
    """What goes when release `new` comes: releases too many, and what broken-off runs have left."""
    kept = {name for name in (new, entries.linked) if name}
    others = [name for name in entries.names if name not in kept]
    complete = [name for name in others if RELEASE.fullmatch(name)]
    kept.update(complete[: max(0, KEPT_RELEASES - len(kept))])
    return tuple(name for name in entries.names if name not in kept)


@operation
def _only(folder: str, names: tuple[str, ...]) -> Iterator[StringCommand]:
    entries: Entries = host.get_fact(EntriesFact, folder=folder)
    yield from _without(folder, [name for name in entries.names if name not in names])


@operation
def _releases(folder: str, current: str, new: str) -> Iterator[StringCommand]:
    entries: Entries = host.get_fact(EntriesFact, folder=folder, link=current)
    yield from _without(folder, outdated(entries, new))


def _without(folder: str, names: Sequence[str]) -> Iterator[StringCommand]:
    for name in names:
        record(Change(f"{folder}/{name}", ("removed",)))
    for name in names:
        yield script('rm -rf -- "$path"', path=f"{folder}/{name}")
