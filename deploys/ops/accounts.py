"""Users and groups of a host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.paths.foreign import REMOVE
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script


@dataclass(frozen=True, slots=True)
class UserState:
    """A user of a host: home folder, primary and supplementary groups, and whether `expired`: locked out."""

    home: str
    group: str
    groups: frozenset[str] = frozenset()
    expired: bool = False


class UserFact(Fact):
    """A user, or `None`."""

    def command(self, user: str) -> str:
        """Return a script that prints the passwd line, the groups, and the day of expiry."""
        return assignments(user=user) + _USER

    def process(self, output: list[str]) -> UserState | None:
        """Turn the script's lines into a `UserState`."""
        fields = output[0].split(":")
        if len(fields) < 7:
            return None
        primary, supplementary, expiry = (*output[1:], "")[:3]
        return UserState(fields[5], primary, frozenset(supplementary.split()), bool(expiry))


_USER = r"""
entry=$(getent passwd "$user") || { echo; exit 0; }
echo "$entry"
id -gn "$user"
id -nG "$user"
getent shadow "$user" | cut -d: -f8
"""


class GroupFact(Fact):
    """The members of a group, or `None` when there is no such group."""

    def command(self, group: str) -> str:
        """Return a script that prints the group's line."""
        return f'{assignments(group=group)}getent group "$group" || echo'

    def process(self, output: list[str]) -> frozenset[str] | None:
        """Turn the group's line into its members."""
        fields = output[0].split(":")
        return frozenset(filter(None, fields[3].split(","))) if len(fields) == 4 else None


def group(name: str, **arguments: Any) -> OperationMeta:
    """Create a system group unless it exists."""
    arguments.setdefault("name", f"Group {name}")
    return _group(name, **arguments)


def person(name: str, *, home: str, groups: tuple[str, ...], **arguments: Any) -> OperationMeta:
    """Create a user with a shell and at least these groups, who can log in with a key only."""
    arguments.setdefault("name", f"User {name}")
    return _person(name, home, groups, **arguments)


def retired(name: str, *, group: str, **arguments: Any) -> OperationMeta:
    """Disable the login of `name` and remove it from `group`; account, home folder and files stay."""
    arguments.setdefault("name", f"Retire login {name}")
    return _retired(name, group, **arguments)


def absent(name: str, **arguments: Any) -> OperationMeta:
    """Remove the user and the group `name`; files that belonged to them stay."""
    arguments.setdefault("name", f"No user {name}")
    return _absent(name, **arguments)


@operation
def _absent(name: str) -> Iterator[StringCommand]:
    user, group = host.get_fact(UserFact, user=name), host.get_fact(GroupFact, group=name)
    if user is not None or group is not None:
        record(Change(f"user {name}", ("account removed; files that belonged to it stay",)))
        yield script(_REMOVE, name=name)


# userdel also removes the group when no other user is in it.
_REMOVE = r"""
set -eu
! getent passwd "$name" >/dev/null || userdel "$name"
! getent group "$name" >/dev/null || groupdel "$name"
"""


@operation
def _group(name: str) -> Iterator[StringCommand]:
    if host.get_fact(GroupFact, group=name) is None:
        record(Change(f"group {name}", ("new group",)))
        yield script('groupadd --system "$name"', name=name)


@operation
def _person(name: str, home: str, groups: tuple[str, ...]) -> Iterator[StringCommand]:
    state: UserState | None = host.get_fact(UserFact, user=name)
    joined = ",".join(groups)
    if state is None:
        record(Change(f"user {name}", (f"new user, home {home}, groups {joined}",)))
        yield script(_NEW_PERSON, name=name, home=home, groups=joined)
    elif state.expired or set(groups) - state.groups:
        record(Change(f"user {name}", (f"may log in, groups {joined}",)))
        yield script('usermod -a -G "$groups" -e "" "$name"', name=name, groups=joined)


_NEW_PERSON = r"""
set -eu
useradd --create-home --home-dir "$home" --shell /bin/bash --user-group --groups "$groups" "$name"
"""


@operation
def _retired(name: str, group: str) -> Iterator[StringCommand]:
    state: UserState | None = host.get_fact(UserFact, user=name)
    if state is not None and (group in state.groups or not state.expired):
        record(Change(f"user {name}", RETIRED))
        yield script(_RETIRE, name=name, group=group, home=state.home, remove=REMOVE)


RETIRED = (
    "it may not log in any more, its keys and its sudo are removed",
    "its account, home folder and files stay",
)

# sshd refuses an expired account with any key. The user owns the folder, and may have replaced it by a link.
_RETIRE = r"""
set -eu
usermod -e 1 "$name"
gpasswd -d "$name" "$group" >/dev/null
python3 -I -c "$remove" "$home/.ssh/authorized_keys" || true
"""
