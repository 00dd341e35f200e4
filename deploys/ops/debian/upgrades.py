"""Updates of installed packages: the distribution's own, all of them or only those for security."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.debian import apt
from deploys.ops.debian.apt import Settled
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script

RECORD = "/var/lib/clawd/state/upgraded"
"""Its modification time is that of the host's last update."""
DAILY = "/var/lib/apt/periodic/update-stamp"
"""Its modification time is when the distribution's own timer last read the mirrors' index."""
INPUTS = "/etc/apt /var/lib/apt /var/lib/dpkg/status /etc/machine-id"
"""What apt's answer depends on: settings, index, installed packages, and (by machine) phased updates."""
KNOWN = "/var/lib/clawd/state/pending"
"""Cache of that answer, with a digest of names, sizes and times of `INPUTS`: apt takes 0.6 s of a core."""
LONGEST_DAYS = 7
"""Highest age of the mirrors' index. The timer reads it daily; without internet only our runs do."""

UpgradeScope = Literal["security", "all"]

_UNKNOWN = "?"

# Labels and archives as apt prints them: `Debian-Security:12/stable-security`, `Ubuntu:24.04/noble-updates`.
# Packages of other repositories have the version that their component wants.
_ORIGINS: dict[UpgradeScope, str] = {
    "security": " (Debian-Security|Ubuntu):[^ ,]*-security",
    "all": " (Debian|Debian-Security|Ubuntu):",
}


@dataclass(frozen=True, slots=True)
class Pending:
    """Updates that a host lacks, each `NAME=VERSION`, according to its index.

    `days` is the age of that index; `None` when the host has never been updated. `known` is false when apt
    could not list the updates.
    """

    packages: tuple[str, ...] = ()
    days: int | None = 0
    known: bool = True


class PendingFact(Fact):
    """The updates of the given kind that a host lacks."""

    def command(self, updates: UpgradeScope) -> str:
        """Return a script that prints the age of the index, then one package per line."""
        given = assignments(**_given(updates), daily=DAILY, unknown=_UNKNOWN)
        return given + _AGE

    @staticmethod
    def default() -> Pending:
        """Return that no update is lacking."""
        return Pending()

    def process(self, output: list[str]) -> Pending:
        """Turn the lines into a `Pending`."""
        age, *packages = output
        days = None if age == "never" else int(age or 0)
        if _UNKNOWN in packages:
            return Pending(days=days, known=False)
        return Pending(tuple(filter(None, packages)), days)


def current(updates: UpgradeScope, **arguments: Any) -> OperationMeta:
    """Install the distribution's updates of all installed packages, all of them or those for security.

    The mirrors' index is read first: in the first run, when there are updates, and when it has not been read
    for `LONGEST_DAYS`. Versions that the administrator holds stay. Packages restart their own services; a new
    kernel waits for the next boot.
    """
    what = "Security updates" if updates == "security" else "Updates"
    return _current(updates, **{"name": f"{what} of packages", **arguments})


@operation
def _current(updates: UpgradeScope) -> Iterator[StringCommand]:
    state: Pending = host.get_fact(PendingFact, updates=updates)
    why = reason(state)
    if not why:
        return
    record(Change("packages", why))
    yield Settled()
    yield script(
        _UPGRADE,
        **apt.values(host),
        **_given(updates),
    )


def _given(updates: UpgradeScope) -> dict[str, str]:
    return {"record": RECORD, "known": KNOWN, "inputs": INPUTS, "origins": _ORIGINS[updates], "form": _FORM}


def reason(state: Pending) -> tuple[str, ...]:
    """Return why the host needs updates, in lines for the plan; none when it does not."""
    lines = []
    if state.days is None:
        lines.append("bring up to date, with a fresh index")
    elif state.days > LONGEST_DAYS:
        lines.append(f"read the mirrors' index, which is {state.days} days old, and install what it has")
    if not state.known:
        lines.append("read the mirrors' index: apt cannot say which updates there are")
    if state.packages:
        count = len(state.packages)
        lines.append(f"upgrade {count} package{'s' if count > 1 else ''}: {' '.join(state.packages)}")
    return tuple(lines)


_PENDING = program("deploys/ops/debian/scripts/pending.sh")
_FORM = sha256(_PENDING.encode()).hexdigest()[:16]
"""Part of the digest: an answer that another version of this program cached is not used."""
_AGE = program("deploys/ops/debian/scripts/pending_updates.sh")

_UPGRADE = program("deploys/ops/debian/scripts/upgrade.sh")
