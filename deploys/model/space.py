"""Check for disk space on a host, before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pyinfra import host

from deploys.disk.pending_space import arriving
from deploys.ops.facts import Fact
from deploys.ops.programs import program
from deploys.ops.shell import assignments
from inventory.errors import CapacityError

RESERVE = 256 * 1024**2
"""Bytes kept free for journals, packages and the bots' database."""


@dataclass(frozen=True, slots=True)
class Space:
    """Free bytes on the file system of a path, whether the path exists, and bytes of its partial copies."""

    free: int
    there: bool
    partial: int


class SpaceFact(Fact):
    """Space for one path, which may be missing or partial."""

    def command(self, path: str) -> str:
        """Return a script that prints free bytes, 1 or 0 (path exists or not), bytes of partial copies."""
        return assignments(path=path) + _SPACE

    def process(self, output: list[str]) -> Space:
        """Turn the three numbers into `Space`."""
        free, there, partial = (int(line) for line in output)
        return Space(free, bool(there), partial)


_SPACE = program("deploys/model/scripts/space.sh")


def require_space(path: str, size: int, what: str) -> None:
    """Raise `CapacityError` when the current host has no room for `size` bytes at `path`.

    Partial copies of earlier attempts count, and an existing path needs no space. `RESERVE` stays free.
    """
    space: Space = host.get_fact(SpaceFact, path=path)
    if (coming := arriving(path)) is not None:
        # The present content is about to be hidden by a mount.
        space = replace(space, free=coming)
    shortage = shortage_of(space, size)
    if shortage:
        raise CapacityError(
            f"{host.name}: {what} needs {_mib(size)} at {path}, and only {_mib(space.free)} are free "
            f"({_mib(RESERVE)} of which stay free)",
            advice=f"free at least {_mib(shortage)} on the host",
        )


def shortage_of(space: Space, size: int) -> int:
    """Return the bytes that are missing for `size` bytes, 0 when they fit or the path exists already."""
    return 0 if space.there else max(0, size - space.partial + RESERVE - space.free)


def _mib(size: int) -> str:
    return f"{-(-size // 1024**2)} MiB"
