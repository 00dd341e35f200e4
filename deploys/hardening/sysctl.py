"""Kernel settings in force. What a host refuses is noted by name, told by every run, and not tried again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.changes import Change, operation, record
from deploys.ops.facts import Fact
from deploys.ops.shell import assignments, script

REFUSED = "/var/lib/clawd/state/sysctl.refused"
"""A key a line: what this host does not let itself be set to."""
BEFORE = "/var/lib/clawd/state/sysctl.before"
"""`KEY=VALUE` a line: what was in force before the first run changed it."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Kernel settings of a host: what is in force, which can be written, and which were noted as refused."""

    values: Mapping[str, str]
    writable: frozenset[str]
    refused: frozenset[str]
    kept: bool = False
    """Whether there are earlier values to go back to."""

    def pending(self, wanted: Mapping[str, str]) -> dict[str, str]:
        """What differs and can be set."""
        return {
            key: value
            for key, value in wanted.items()
            if self.values.get(key) != value and key in self.writable - self.refused
        }

    def resisting(self, wanted: Mapping[str, str]) -> frozenset[str]:
        """What differs and cannot be set."""
        differing = {key for key, value in wanted.items() if self.values.get(key) != value}
        return frozenset(differing - self.pending(wanted).keys())


class SettingsFact(Fact):
    """Kernel settings by name."""

    def command(self, keys: tuple[str, ...]) -> str:
        """A script that prints `value KEY=…`, `writable KEY` and `refused KEY` lines."""
        return assignments(keys=" ".join(keys), refused=REFUSED, before=BEFORE) + _READ

    @staticmethod
    def default() -> Settings:
        """Nothing known."""
        return Settings({}, frozenset(), frozenset())

    def process(self, output: list[str]) -> Settings:
        """Turn the script's lines into `Settings`."""
        told = [line.partition(" ") for line in output]
        values = dict(rest.split("=", 1) for kind, _, rest in told if kind == "value")

        def named(what: str) -> frozenset[str]:
            return frozenset(rest for kind, _, rest in told if kind == what)

        return Settings(
            values, named("writable"), named("refused"), any(kind == "kept" for kind, _, _ in told)
        )


# A setting below a read-only mount is not writable for root either.
_READ = r"""
for key in $keys; do
    file=/proc/sys/$(printf %s "$key" | tr . /)
    if [ -r "$file" ]; then printf 'value %s=%s\n' "$key" "$(tr '\t' ' ' < "$file")"; fi
    if [ -w "$file" ]; then echo "writable $key"; fi
done
[ ! -f "$refused" ] || sed 's/^/refused /' "$refused"
[ ! -f "$before" ] || echo kept
"""


def in_force(wanted: Mapping[str, str]) -> OperationMeta:
    """These kernel settings, as far as the host lets itself be set."""
    return _in_force(tuple(sorted(wanted.items())), name="Kernel settings")


def restored() -> OperationMeta:
    """The kernel settings that were in force before `in_force` first changed them."""
    return _restored(name="Kernel settings of before")


@operation
def _in_force(items: tuple[tuple[str, str], ...]) -> Iterator[StringCommand]:
    wanted = dict(items)
    state: Settings = host.get_fact(SettingsFact, keys=tuple(wanted))
    pending, resisting = state.pending(wanted), state.resisting(wanted)
    if not pending and resisting == state.refused:
        return
    for key, value in pending.items():
        record(Change(f"sysctl {key}", (f"{state.values.get(key, 'unset')} → {value}",)))
    for key in sorted(resisting - state.refused):
        record(Change(f"sysctl {key}", ("this host refuses it; noted",)))
    yield script(
        _SET,
        pending="\n".join(f"{key}={value}" for key, value in pending.items()),
        resisting="\n".join(sorted(resisting)),
        refused=REFUSED,
        before=BEFORE,
    )


_SET = r"""
set -u
umask 077
mkdir -p "${refused%/*}"
touch "$before"
list=$resisting
while IFS='=' read -r key value; do
    [ "$key" ] || continue
    file=/proc/sys/$(printf %s "$key" | tr . /)
    old=$(cat "$file")
    if printf '%s\n' "$value" 2>/dev/null > "$file"; then
        grep -q "^$key=" "$before" || printf '%s=%s\n' "$key" "$old" >> "$before"
    else
        list="$list
$key"
    fi
done <<END
$pending
END
printf '%s\n' "$list" | sed '/^$/d' | sort -u > "$refused.new" && mv -f "$refused.new" "$refused"
[ ! -s "$refused" ] || echo "this host refuses: $(tr '\n' ' ' < "$refused")" >&2
"""


@operation
def _restored() -> Iterator[StringCommand]:
    state: Settings = host.get_fact(SettingsFact, keys=())
    if state.kept:
        record(Change("sysctl", ("as before",)))
        yield script(_RESTORE, refused=REFUSED, before=BEFORE)


_RESTORE = r"""
while IFS='=' read -r key value; do
    file=/proc/sys/$(printf %s "$key" | tr . /)
    [ ! -w "$file" ] || printf '%s\n' "$value" > "$file" 2>/dev/null || true
done < "$before"
rm -f "$before" "$refused"
"""
