"""The changes that operations of a host would make, collected for the plan.

An `operation` calls `record` for each difference that it finds. pyinfra evaluates operations twice, while
preparing and again while executing, so the recorded changes are those of the latest evaluation. They are
kept with the host, by operation.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ParamSpec

from pyinfra import host as current_host
from pyinfra.api import StringCommand
from pyinfra.api import operation as pyinfra_operation
from pyinfra.api.operation import OperationMeta

from deploys.ops.run_state import Change, run_state

P = ParamSpec("P")

NOT_SHOWN = "content not shown"


def operation(commands: Callable[P, Iterator[StringCommand]]) -> Callable[..., OperationMeta]:
    """Make a pyinfra operation of a generator of `commands`; each evaluation replaces the recorded changes.

    It also takes pyinfra's global arguments (`name`, `_sudo`, …). Give it a `name`: without one pyinfra makes
    its label from the arguments, which may be secret.
    """

    @wraps(commands)
    def evaluated(*args: P.args, **kwargs: P.kwargs) -> Iterator[StringCommand]:
        run_state(current_host).changes[current_host.current_op_hash] = []
        yield from commands(*args, **kwargs)

    made: Callable[..., OperationMeta] = pyinfra_operation()(evaluated)
    return made


def record(change: Change) -> None:
    """Add `change` to the changes of the operation that is being evaluated."""
    run_state(current_host).changes.setdefault(current_host.current_op_hash, []).append(change)


def collected(host: Any, op_hash: str) -> list[Change]:
    """Return what operation `op_hash` would change on the pyinfra `host`, as of its latest evaluation."""
    return list(run_state(host).changes.get(op_hash, ()))


def expected(host: Any, path: str) -> bool:
    """Return whether an operation evaluated so far would change `path` on the pyinfra `host`."""
    return any(
        path in (change.path, *change.records)
        for changes in run_state(host).changes.values()
        for change in changes
    )


def text_diff(old: bytes | None, new: bytes) -> tuple[str, ...]:
    """Return the lines of a unified diff, or one line in words where either side is not text."""
    try:
        before, after = (old or b"").decode().splitlines(), new.decode().splitlines()
    except UnicodeDecodeError:
        return (f"binary content, {len(new)} bytes",)
    lines = difflib.unified_diff(before, after, lineterm="", n=2)
    return tuple(line for line in lines if not line.startswith(("--- ", "+++ ")))
