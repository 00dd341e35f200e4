"""Updates of packages that are there: the distribution's own, all of them or those for security."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.apt import APT, Settled
from deploys.ops.changes import Change, operation, record
from deploys.ops.facts import Fact
from deploys.ops.shell import assignments, script

RECORD = "/var/lib/clawd/state/upgraded"
"""Its time is when the host was last brought up to date."""
DAILY = "/var/lib/apt/periodic/update-stamp"
"""Its time is when the distribution's own timer last read the mirrors' index."""
INPUTS = "/etc/apt /var/lib/apt /var/lib/dpkg/status /etc/machine-id"
"""What apt's answer depends on: its settings, the index, what is installed, and whose turn an update is."""
KNOWN = "/var/lib/clawd/state/pending"
"""That answer, under a digest of names, sizes and changes of `INPUTS`: to ask apt anew costs a core 0.6 s."""
LONGEST_DAYS = 7
"""So old may the mirrors' index be. That timer reads it daily; a host without internet has but our runs."""

Updates = Literal["security", "all"]

_UNTOLD = "?"

# Labels and archives as apt tells them: `Debian-Security:12/stable-security`, `Ubuntu:24.04/noble-updates`.
# What comes from other repositories is of the version that its component wants.
_ORIGINS: dict[Updates, str] = {
    "security": " (Debian-Security|Ubuntu):[^ ,]*-security",
    "all": " (Debian|Debian-Security|Ubuntu):",
}


@dataclass(frozen=True, slots=True)
class Pending:
    """Updates that a host has not taken in, each `NAME=VERSION`, by the index that it has.

    `days` is the age of that index; `None` when the host has never been brought up to date. `told` is false
    where apt could not say which updates there are.
    """

    packages: tuple[str, ...] = ()
    days: int | None = 0
    told: bool = True


class PendingFact(Fact):
    """What updates of some kind a host lacks."""

    def command(self, updates: Updates) -> str:
        """A script that prints the index's age, then a package a line."""
        given = assignments(**_given(updates), daily=DAILY, untold=_UNTOLD)
        return given + _PENDING + _AGE + 'pending 2>/dev/null || echo "$untold"'

    @staticmethod
    def default() -> Pending:
        """Nothing known to be lacking."""
        return Pending()

    def process(self, output: list[str]) -> Pending:
        """Turn the lines into a `Pending`."""
        age, *packages = output
        days = None if age == "never" else int(age or 0)
        if _UNTOLD in packages:
            return Pending(days=days, told=False)
        return Pending(tuple(filter(None, packages)), days)


def current(updates: Updates, **arguments: Any) -> OperationMeta:
    """Every package of the host has the updates that its distribution offers, all or those for security.

    The mirrors' index is read first: the first time, when there are updates, and when nobody else has read it
    for `LONGEST_DAYS`. Versions that the administrator holds stay. Packages restart their own services; a new
    kernel waits for the next boot.
    """
    what = "Security updates" if updates == "security" else "Updates"
    return _current(updates, **{"name": f"{what} of packages", **arguments})


@operation
def _current(updates: Updates) -> Iterator[StringCommand]:
    state: Pending = host.get_fact(PendingFact, updates=updates)
    why = reason(state)
    if not why:
        return
    record(Change("packages", why))
    yield Settled()
    yield script(
        APT + _PENDING + _UPGRADE,
        **_given(updates),
        options=host.data.get("apt_options") or "",
    )


def _given(updates: Updates) -> dict[str, str]:
    return {"record": RECORD, "known": KNOWN, "inputs": INPUTS, "origins": _ORIGINS[updates], "form": _FORM}


def reason(state: Pending) -> tuple[str, ...]:
    """Why the host needs updates, in lines for the plan; none when it does not."""
    lines = []
    if state.days is None:
        lines.append("bring up to date, by an index read anew")
    elif state.days > LONGEST_DAYS:
        lines.append(f"read the mirrors' index, which is {state.days} days old, and install what it has")
    if not state.told:
        lines.append("read the mirrors' index: apt cannot say which updates there are")
    if state.packages:
        count = len(state.packages)
        lines.append(f"upgrade {count} package{'s' if count > 1 else ''}: {' '.join(state.packages)}")
    return tuple(lines)


_PENDING = r"""
pending() {  # NAME=VERSION of what is there and would be upgraded, from wanted origins
    there=$(find -L $inputs -type f -printf '%p %s %C@\n' 2>/dev/null | sort)
    digest=$(printf '%s\n' "$form" "$origins" "$there" | sha256sum)
    if { read -r of; kept=$(cat); } 2>/dev/null <"$known" && [ "$of" = "$digest" ]; then
        printf '%s\n' "$kept"
        return
    fi
    told=$(LC_ALL=C apt-get -s -q --with-new-pkgs upgrade </dev/null) || return 1
    found=$(printf '%s\n' "$told" |
        sed -n 's/^Inst \([^ ]*\) \[[^]]*\] (\([^ ]*\) \(.*\) \[[^]]*\]).*/\1=\2 \3/p' |
        grep -E -e "$origins" | cut -d ' ' -f 1)
    printf '%s\n' "$found"
    if [ -d "${known%/*}" ]; then
        # Several runs may look at once.
        { printf '%s\n' "$digest" "$found" > "$known.$$" && mv "$known.$$" "$known"; } || rm -f "$known.$$"
    fi
}
"""
_FORM = sha256(_PENDING.encode()).hexdigest()[:16]
"""An answer kept by another version of this program is none."""
_AGE = r"""
if [ -f "$record" ]; then
    read=$(stat -c %Y "$record" "$daily" 2>/dev/null | sort -n | tail -n 1)
    echo $((($(date +%s) - read) / 86400))
else echo never
fi
"""

# apt would call what it upgrades by name wanted by hand, and never remove it by itself again.
_UPGRADE = r"""
apt -o APT::Update::Error-Mode=any update || exit 1
packages=$(pending) || exit 1
if [ "$packages" ]; then
    automatic=$(apt-mark showauto $(printf '%s\n' "$packages" | sed 's/=.*//'))
    apt install --only-upgrade --no-remove --no-install-recommends -- $packages || exit 1
    [ -z "$automatic" ] || apt-mark auto $automatic >/dev/null
fi
mkdir -p "${record%/*}"
touch "$record"
"""
