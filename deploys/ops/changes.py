"""What the operations of a host would change, collected for the plan.

An `operation` calls `record` for everything it finds different. pyinfra evaluates operations twice,
while preparing and again while executing, so what is recorded belongs to the latest evaluation. It is
kept with the host, by operation.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec

from pyinfra import host as current_host
from pyinfra.api import StringCommand
from pyinfra.api import operation as pyinfra_operation
from pyinfra.api.operation import OperationMeta

P = ParamSpec("P")

_KEY = "clawd_changes"
NOT_SHOWN = "content not shown"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that would differ afterwards.

    `path` is a file of the host, or a name such as `nginx.service`. `diff` says how it would differ: lines of
    a unified diff, and lines in words. It never carries the content of something `secret`. `records` are
    notes of ours on the host that change with it: what watches them is told, people are not.
    """

    path: str
    diff: tuple[str, ...]
    secret: bool = False
    records: tuple[str, ...] = ()


def operation(commands: Callable[P, Iterator[StringCommand]]) -> Callable[..., OperationMeta]:
    """A pyinfra operation from a generator of `commands`, which forgets what it recorded when last evaluated.

    It takes pyinfra's global arguments (`name`, `_sudo`, …) too. Give it a `name`: without one pyinfra makes
    its label from the arguments, and they may be secret.
    """

    @wraps(commands)
    def evaluated(*args: P.args, **kwargs: P.kwargs) -> Iterator[StringCommand]:
        _recorded(current_host)[current_host.current_op_hash] = []
        yield from commands(*args, **kwargs)

    made: Callable[..., OperationMeta] = pyinfra_operation()(evaluated)
    return made


def record(change: Change) -> None:
    """Add to what the operation now being evaluated would change."""
    _recorded(current_host).setdefault(current_host.current_op_hash, []).append(change)


def collected(host: Any, op_hash: str) -> list[Change]:
    """What operation `op_hash` would change on the pyinfra `host`, as of its latest evaluation."""
    return list(_recorded(host).get(op_hash, ()))


def expected(host: Any, path: str) -> bool:
    """Whether an operation evaluated so far would change `path` on the pyinfra `host`."""
    return any(
        path in (change.path, *change.records) for changes in _recorded(host).values() for change in changes
    )


def text_diff(old: bytes | None, new: bytes) -> tuple[str, ...]:
    """The lines of a unified diff, or one line in words where either side is not text."""
    try:
        before, after = (old or b"").decode().splitlines(), new.decode().splitlines()
    except UnicodeDecodeError:
        return (f"binary content, {len(new)} bytes",)
    lines = difflib.unified_diff(before, after, lineterm="", n=2)
    return tuple(line for line in lines if not line.startswith(("--- ", "+++ ")))


def _recorded(host: Any) -> dict[str | None, list[Change]]:
    store: dict[str | None, list[Change]] = host.connector_data.setdefault(_KEY, {})
    return store
