"""Programs that run on hosts: the files `scripts/*.sh` and `scripts/*.py` next to the modules that use them.

A Python program uses only the standard library. A shell program is plain POSIX shell; it declares the
variables that it needs at its head (`: "${path?}"`), and receives them from `deploys.ops.shell.assignments`.
What several shell programs share are files of functions. A program names them in lines
`. deploys/…/scripts/NAME.sh`, so that shellcheck follows them; `program` puts the text of the file there,
because hosts receive one text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""Folder of the packages `deploys` and `provision`; paths of programs are relative to it."""

_SOURCE = re.compile(r"\. ((?:deploys|provision)/\S+/scripts/\S+\.sh)")


@cache
def program(path: str) -> str:
    """Return the program in the file `path`, a shell program with the functions that it sources, each once.

    Leave out the comments at the head of each file, and the directives for shellcheck. Raise
    `FileNotFoundError` if there is no such file.
    """
    return "".join(f"{line}\n" for line in _lines(path, set()))


def sources(path: str) -> tuple[str, ...]:
    """Return the paths of the files that the program in the file `path` sources itself."""
    found = map(_SOURCE.fullmatch, (ROOT / path).read_text().splitlines())
    return tuple(match[1] for match in found if match)


def _lines(path: str, sourced: set[str]) -> Iterator[str]:
    """Yield the lines of the program, and add the files that it sources to `sourced`."""
    at_head = True
    for line in (ROOT / path).read_text().splitlines():
        at_head = at_head and (not line or line.startswith("#"))
        if at_head or line.lstrip().startswith("# shellcheck "):
            continue
        if not (match := _SOURCE.fullmatch(line)):
            yield line
        elif match[1] not in sourced:
            sourced.add(match[1])
            yield from _lines(match[1], sourced)
