"""The users that engine and bot run as."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.accounts import UserFact, UserState
from deploys.ops.diff import operation, record
from deploys.ops.run_state import Change
from deploys.ops.shell import script


def service(name: str, *, group: str, **arguments: Any) -> OperationMeta:
    """Create a system user without home or login, whose primary group is `group`."""
    arguments.setdefault("name", f"User {name}")
    return _service(name, group, **arguments)


@operation
def _service(name: str, group: str) -> Iterator[StringCommand]:
    state: UserState | None = host.get_fact(UserFact, user=name)
    if state is None:
        record(Change(f"user {name}", (f"new system user, group {group}",)))
        yield script(_NEW, name=name, group=group)
    elif state.group != group:
        record(Change(f"user {name}", (f"group {state.group} → {group}",)))
        yield script('usermod -g "$group" "$name"', name=name, group=group)


_NEW = r"""
useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin -g "$group" "$name"
"""
