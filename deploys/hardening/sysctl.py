"""Kernel settings in force.

A setting of the usual set that a host refuses is noted by name, reported by every run, and not tried again.
A setting that the inventory itself declares has to be in force: the plan refuses one that a host does not
know (`preflight.declared_values`), and the operation fails when one cannot be set. A setting that is
no longer declared is restored to its value before the first run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact
from deploys.ops.programs import program
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script

REFUSED = "/var/lib/clawd/state/sysctl.refused"
"""The keys that this host refuses to set, one per line."""
BEFORE = "/var/lib/clawd/state/sysctl.before"
"""`KEY=VALUE`, one per line: the values before the first run changed them."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Kernel settings of a host: what is in force, which can be written, and which were noted as refused."""

    values: Mapping[str, str]
    writable: frozenset[str]
    refused: frozenset[str]
    kept: bool = False
    """Whether there are earlier values to restore."""
    before: Mapping[str, str] = field(default_factory=dict)
    """The values before the first run changed them."""

    def pending(self, wanted: Mapping[str, str], required: frozenset[str] = frozenset()) -> dict[str, str]:
        """Return the differing values that can be set, or that have to be."""
        able = (self.writable - self.refused) | required
        return {key: value for key, value in wanted.items() if self.values.get(key) != value and key in able}

    def resisting(self, wanted: Mapping[str, str], required: frozenset[str] = frozenset()) -> frozenset[str]:
        """Return the keys that differ and cannot be set."""
        differing = {key for key, value in wanted.items() if self.values.get(key) != value}
        return frozenset(differing - self.pending(wanted, required).keys())

    def retired(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """Return the former values of what an earlier run changed and is no longer wanted."""
        return {key: value for key, value in self.before.items() if key not in wanted}


class SettingsFact(Fact):
    """Kernel settings by name."""

    def command(self, keys: tuple[str, ...]) -> str:
        """Return a script that prints `value KEY=…`, `writable KEY`, `refused KEY`, `before KEY=…` lines."""
        return assignments(keys=" ".join(keys), refused=REFUSED, before=BEFORE) + _READ

    @staticmethod
    def default() -> Settings:
        """Return no values."""
        return Settings({}, frozenset(), frozenset())

    def process(self, output: list[str]) -> Settings:
        """Turn the script's lines into `Settings`."""
        rows = [line.partition(" ") for line in output]

        def valued(what: str) -> dict[str, str]:
            return dict(rest.split("=", 1) for kind, _, rest in rows if kind == what and "=" in rest)

        def named(what: str) -> frozenset[str]:
            return frozenset(rest for kind, _, rest in rows if kind == what)

        return Settings(
            valued("value"),
            named("writable"),
            named("refused"),
            any(kind == "kept" for kind, _, _ in rows),
            valued("before"),
        )


_READ = program("deploys/hardening/scripts/read_sysctl.sh")


def in_force(wanted: Mapping[str, str], required: Iterable[str] = ()) -> OperationMeta:
    """Set these kernel settings: all those of `required`, the others where the host allows it.

    Settings of an earlier run that are not among them are restored to their former values.
    """
    return _in_force(tuple(sorted(wanted.items())), frozenset(required), name="Kernel settings")


def restored() -> OperationMeta:
    """Restore the kernel settings to their values before `in_force` first changed them."""
    return _restored(name="Kernel settings of before")


@operation
def _in_force(items: tuple[tuple[str, str], ...], required: frozenset[str]) -> Iterator[StringCommand]:
    wanted = dict(items)
    state: Settings = host.get_fact(SettingsFact, keys=tuple(wanted))
    pending, resisting = state.pending(wanted, required), state.resisting(wanted, required)
    retired = state.retired(wanted)
    if not pending and not retired and resisting == state.refused:
        return
    for key, value in retired.items():
        now = state.values.get(key, "unset")
        what = "no longer declared" if now == value else f"{now} → {value}, as before it was declared"
        record(Change(f"sysctl {key}", (what,)))
    for key, value in pending.items():
        record(Change(f"sysctl {key}", (f"{state.values.get(key, 'unset')} → {value}",)))
    for key in sorted(resisting - state.refused):
        record(Change(f"sysctl {key}", ("this host refuses it; noted",)))
    yield script(
        _SET,
        pending="\n".join(f"{key}={value}" for key, value in pending.items()),
        resisting="\n".join(sorted(resisting)),
        retired="\n".join(f"{key}={value}" for key, value in retired.items()),
        required=" ".join(sorted(required)),
        refused=REFUSED,
        before=BEFORE,
    )


_SET = program("deploys/hardening/scripts/set_sysctl.sh")


@operation
def _restored() -> Iterator[StringCommand]:
    state: Settings = host.get_fact(SettingsFact, keys=())
    if state.kept:
        record(Change("sysctl", ("as before",)))
        yield script(_RESTORE, refused=REFUSED, before=BEFORE)


_RESTORE = program("deploys/hardening/scripts/restore_sysctl.sh")
