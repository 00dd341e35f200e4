"""The user that Debian's packages of Prometheus share, and do not remove."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.exporters.exporter import ACCOUNT
from deploys.ops.accounts import UserFact
from deploys.ops.diff import operation, record
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import script

HOME = "/var/lib/prometheus"
DATA = ("/var/lib/clawd-prometheus", "/var/lib/clawd-alertmanager")
"""Folders that belong to the user and are kept when Prometheus and Alertmanager are removed."""


def present(**arguments: Any) -> OperationMeta:
    """Create the user as these packages do, for files that it has to own before they are installed."""
    arguments.setdefault("name", f"User {ACCOUNT}")
    return _present(**arguments)


@operation
def _present() -> Iterator[StringCommand]:
    if host.get_fact(UserFact, user=ACCOUNT) is None:
        record(Change(f"user {ACCOUNT}", ("new system user",)))
        yield script(_PRESENT, name=ACCOUNT, home=HOME)


_PRESENT = r"""
set -eu
group=--user-group
! getent group "$name" >/dev/null || group="--gid $name"
useradd --system --no-create-home --home-dir "$home" --shell /usr/sbin/nologin $group "$name"
"""


def gone(**arguments: Any) -> OperationMeta:
    """Remove the user, unless a package that is still there, or data, belongs to it."""
    arguments.setdefault("name", f"No user {ACCOUNT}")
    return _gone(**arguments)


@operation
def _gone() -> Iterator[StringCommand]:
    if host.get_fact(UserFact, user=ACCOUNT) is not None:
        record(Change(f"user {ACCOUNT}", ("removed, when nothing needs it any more",)))
        yield script(_GONE, name=ACCOUNT, home=HOME)


_GONE = program("deploys/exporters/scripts/account_gone.sh")
