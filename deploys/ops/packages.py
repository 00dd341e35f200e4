"""Debian packages, and whose they are: what a component brought is what it takes away again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.changes import Change, operation, record
from deploys.ops.facts import Fact, PackagesFact
from deploys.ops.shell import assignments, script

RECORDS = "/var/lib/clawd/state/packages"
"""A file a component: `wants NAME` for what it asked for, `brought NAME` for what was not there before."""


def installed(
    *names: str, component: str | None = None, archive: str | None = None, **arguments: Any
) -> OperationMeta:
    """These packages, each `NAME` or `NAME=VERSION`, without recommended ones.

    Waits up to two minutes for another program's lock, finishes an installation that was cut off, and reads
    the mirrors' index only when a package is missing and the index is a day old or does not do.
    `component` remembers them, with all they depend on, as brought by it, for `removed`: also what was
    unpacked of an installation that failed.
    `archive` is a .deb file of the host that the one package of `names` is installed from.
    `host.data.apt_options` are further arguments of apt-get, such as a proxy for a host without internet.
    """
    arguments.setdefault("name", f"Packages {' '.join(names)}")
    return _installed(tuple(names), component, archive, **arguments)


def removed(component: str, *, keep_configuration: bool = False, **arguments: Any) -> OperationMeta:
    """None of the packages that `component` brought, but those that another component wants or that something
    else has come to depend on.

    They are purged: what they kept in /etc goes, and with some of Debian's (PostgreSQL) their data. With
    `keep_configuration` they are only removed.
    """
    arguments.setdefault("name", f"No packages of {component}")
    return _removed(component, keep_configuration, **arguments)


class WantedFact(Fact):
    """The packages that a component was recorded to want."""

    def command(self, component: str) -> str:
        """A script that prints a name a line."""
        record = assignments(record=f"{RECORDS}/{component}")
        return f"{record}sed -n 's/^wants //p' \"$record\" 2>/dev/null || true"

    @staticmethod
    def default() -> frozenset[str]:
        """None."""
        return frozenset()

    def process(self, output: list[str]) -> frozenset[str]:
        """The names."""
        return frozenset(filter(None, output))


class BroughtFact(Fact):
    """The packages that would go if a component did; `None` when nothing is recorded of it."""

    def command(self, component: str) -> str:
        """A script that prints `recorded`, and a name a line."""
        return assignments(records=RECORDS, component=component) + _BROUGHT

    def process(self, output: list[str]) -> frozenset[str] | None:
        """The names."""
        lines = [line for line in output if line]
        return frozenset(lines[1:]) if lines[:1] == ["recorded"] else None


@operation
def _installed(names: tuple[str, ...], component: str | None, archive: str | None) -> Iterator[StringCommand]:
    present: frozenset[str] = host.get_fact(PackagesFact, packages=names)
    missing = sorted(set(names) - present)
    bare = sorted({name.partition("=")[0] for name in names})
    if not missing and (component is None or set(bare) <= host.get_fact(WantedFact, component=component)):
        return
    if missing:
        record(Change("packages", (f"install {' '.join(missing)}",)))
    else:
        record(Change("packages", (f"note that {component} needs {' '.join(bare)}",)))
    yield script(
        _INSTALL,
        packages=archive if archive and missing else " ".join(missing),
        options=host.data.get("apt_options") or "",
        record=f"{RECORDS}/{component}" if component else "",
        wanted=" ".join(bare),
    )


@operation
def _removed(component: str, keep_configuration: bool) -> Iterator[StringCommand]:
    brought: frozenset[str] | None = host.get_fact(BroughtFact, component=component)
    if brought is None:
        return
    names = " ".join(sorted(brought))
    record(Change("packages", (f"remove {names}",) if names else (f"forget what {component} needed",)))
    yield script(
        _REMOVE,
        packages=names,
        record=f"{RECORDS}/{component}",
        action="remove" if keep_configuration else "purge",
    )


APT = r"""
set -u
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
apt() {
    apt-get -q -y -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold $options "$@" </dev/null
}
if [ "$(ls -A /var/lib/dpkg/updates 2>/dev/null)" ]; then
    dpkg --configure -a --force-confdef --force-confold </dev/null || exit 1
fi
"""

# The names of the packages that are there, were it only in part.
THERE = r"""
there() {
    dpkg-query -W -f='${Package} ${db:Status-Status}\n' |
        sed -En 's/ (installed|unpacked|half-.*|triggers-.*)$//p' | sort -u
}
"""

# `$packages`, `$wanted` and `$options` are lists of words, hence not quoted. What an installation brings is
# written down before it begins as the names that were there, so that one cut off midway is known as well.
# All is downloaded first: that may need a fresh index, and what fails afterwards would fail again with one.
_INSTALL = (
    APT
    + THERE
    + r"""
install() { apt install --no-install-recommends --allow-downgrades "$@" -- $packages; }
note() {  # note WANTED: those who are wanted, and what has come
    [ "$record" ] || return 0
    {
        cat "$record" 2>/dev/null
        [ ! "$1" ] || printf 'wants %s\n' $1
        [ ! -f "$record.before" ] || there | comm -13 "$record.before" - | sed 's/^/brought /'
    } | sort -u > "$record.new"
    mv -f "$record.new" "$record" && rm -f "$record.before"
}
if [ "$record" ]; then
    mkdir -p "${record%/*}"
    [ -f "$record.before" ] || { there > "$record.before.new" && mv "$record.before.new" "$record.before"; }
fi
[ "$packages" ] || { note "$wanted"; exit; }
recent=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -1440 2>/dev/null | head -n 1)
if { [ "$recent" ] && install --download-only; } || { apt update && install --download-only; }; then
    install && { note "$wanted"; exit; }
fi
note ""
exit 1
"""
)

# What goes is what this component alone brought and wants; a package without which another one would have to
# go stays, and so does what that needs.
_BROUGHT = (
    THERE
    + r"""
cd "$records" 2>/dev/null || exit 0
[ -f "$component" ] || [ -f "$component.before" ] || exit 0
echo recorded
others=$(for other in *; do [ "$other" = "$component" ] || sed -n 's/^wants //p' "$other"; done)
brought() {
    [ ! -f "$component" ] || sed -n 's/^brought //p' "$component"
    [ ! -f "$component.before" ] || there | comm -13 "$component.before" -
}
going=$(brought | sort -u | while read -r name; do
    printf '%s\n' "$others" | grep -qxF "$name" && continue
    state=$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)
    case $state in installed|config-files|half-*|unpacked|triggers-*) echo "$name" ;; esac
done)
taken() { apt-get -s -q remove -- $1 2>/dev/null | sed -n 's/^Remv \([^ ]*\).*/\1/p' | sort -u; }
beyond() { taken "$*" | grep -vxF -e "$going" | grep -q .; }
# Of many packages few are needed: those are found by halves, not by asking apt of each.
harmless() {
    beyond "$@" || { printf '%s\n' "$@"; return 0; }
    [ $# -gt 1 ] || return 0
    harmless $(printf '%s\n' "$@" | head -n $(($# / 2)))
    harmless $(printf '%s\n' "$@" | tail -n +$(($# / 2 + 1)))
}
while [ "$going" ] && beyond $going; do
    kept=$(harmless $going)
    [ "$kept" != "$going" ] || break
    going=$kept
done
[ ! "$going" ] || printf '%s\n' "$going"
"""
)

_REMOVE = (
    "options=\n"
    + APT
    + r"""
fileless() {
    systemctl list-units --all --plain --no-legend 2>/dev/null |
        sed -n 's/^\([^ ]*\) *not-found active .*/\1/p' | sort
}
before=$(fileless)
[ ! "$packages" ] || apt "$action" -- $packages || exit 1
# A unit whose file went is ended as well. Systemd no longer knows how that would have done it, and need not:
# nftables would take the rules of other programs along.
systemctl daemon-reload 2>/dev/null
fileless | grep -vxF -e "$before" | xargs -r systemctl stop
# And one that had failed is listed as such although its file is gone.
systemctl list-units --all --state=failed --plain --no-legend 2>/dev/null |
    sed -n 's/^\([^ ]*\) *not-found .*/\1/p' | xargs -r systemctl reset-failed
# What stays for the sake of others is theirs from now on.
for name in $(sed -n 's/^brought //p' "$record" 2>/dev/null); do
    case " $packages " in *" $name "*) continue ;; esac
    for other in "${record%/*}"/*; do
        case $other in "$record"|*.before) continue ;; esac
        [ ! -f "$other" ] || echo "brought $name" >> "$other"
    done
done
rm -f "$record" "$record.before"
"""
)
