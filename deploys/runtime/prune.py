"""Removal of files that are no longer used."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script
from deploys.runtime.last_good import ARCHIVE, ASIDE

KEPT_RELEASES = 3
RELEASE = re.compile(r"[0-9a-f]{16}")


def only(folder: str, names: Collection[str], *, aside: bool = False, **arguments: Any) -> OperationMeta:
    """Remove everything in `folder` except these names; a missing folder counts as empty.

    With `aside`, entries are only renamed, by `ASIDE`, until the whole run has succeeded.
    """
    arguments.setdefault("name", f"Clear {folder}")
    return _only(folder, tuple(sorted(names)), aside, **arguments)


def releases(folder: str, current: str, new: str, **arguments: Any) -> OperationMeta:
    """Keep the newest releases in `folder`, `KEPT_RELEASES` including `new`; remove the others.

    The target of the link `current` stays, and so does its target in the last good state: after interrupted
    runs these differ. Call this while `current` still points at the previous release, so that there is one
    to roll back to.
    """
    arguments.setdefault("name", f"Clear {folder}")
    return _releases(folder, current, new, **arguments)


@dataclass(frozen=True, slots=True)
class Entries:
    """Names in a folder, the most recently changed first.

    `linked` is the name that a link points at, `good` the one that it pointed at in the last good state;
    either may be empty.
    """

    names: tuple[str, ...] = ()
    linked: str = ""
    good: str = ""


class EntriesFact(Fact):
    """Names in a folder by age, including hidden ones."""

    def command(self, folder: str, link: str = "") -> str:
        """Return a script that prints the link's target, the one in the archive, then the names."""
        return assignments(folder=folder, link=link, archive=ARCHIVE) + _ENTRIES

    @staticmethod
    def default() -> Entries:
        """Return no entries."""
        return Entries()

    def process(self, output: list[str]) -> Entries:
        """Turn the script's lines into `Entries`."""
        return Entries(tuple(output[2:]), output[0].removeprefix("link="), output[1].removeprefix("good="))


_ENTRIES = program("deploys/runtime/scripts/entries.sh")


def outdated(entries: Entries, new: str) -> tuple[str, ...]:
    """Return the names to remove for release `new`: surplus releases, and remains of interrupted runs."""
    kept = {name for name in (new, entries.linked, entries.good) if name}
    others = [name for name in entries.names if name not in kept]
    complete = [name for name in others if RELEASE.fullmatch(name)]
    kept.update(complete[: max(0, KEPT_RELEASES - len(kept))])
    return tuple(name for name in entries.names if name not in kept)


@operation
def _only(folder: str, names: tuple[str, ...], aside: bool) -> Iterator[StringCommand]:
    entries: Entries = host.get_fact(EntriesFact, folder=folder)
    yield from _without(folder, [name for name in entries.names if name not in names], aside=aside)


@operation
def _releases(folder: str, current: str, new: str) -> Iterator[StringCommand]:
    entries: Entries = host.get_fact(EntriesFact, folder=folder, link=current)
    yield from _without(folder, outdated(entries, new))


def _without(folder: str, names: Sequence[str], *, aside: bool = False) -> Iterator[StringCommand]:
    for name in names:
        record(Change(f"{folder}/{name}", ("removed",)))
    for name in names:
        renamed = aside and not name.endswith(ASIDE)
        command = f'mv -f -- "$path" "$path{ASIDE}"' if renamed else 'rm -rf -- "$path"'
        yield script(command, path=f"{folder}/{name}")
