"""Debian packages by component: a component removes only packages that its own installations brought.

The packages of an installation are those that its own dpkg processes report (`--status-logger`), recorded
while they run. So packages that somebody else installs never count, even when this program is killed.

Brought packages are marked as installed automatically, and `PROTECTED` keeps `apt autoremove` from removing
those that a component wants. An administrator who needs one for other reasons installs it or marks it as
manual, as any dependency, and it stays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from pyinfra import host
from pyinfra.api import StringCommand
from pyinfra.api.operation import OperationMeta

from deploys.ops.debian import added
from deploys.ops.debian.added import SET_ASIDE, Added, AddedFact
from deploys.ops.debian.apt import APT, Settled
from deploys.ops.diff import operation, record
from deploys.ops.facts import Fact, PackagesFact
from deploys.ops.paths import originals
from deploys.ops.run_state import Change
from deploys.ops.shell import assignments, script
from inventory.errors import HostError

RECORDS = "/var/lib/clawd/state/packages"
"""Folder with one file per component, of lines with a NAME: `wants` for what it requested, `brought` for what
its installations installed, `marked` for those of them marked as automatic; from before its first
installation, `there` for installed packages, `residual` for removed ones whose configuration was left.
`COMPONENT.log` is dpkg's log of an installation that is not recorded yet."""
ANY = "*"
OBSTACLE = "unmount or rename it, and run again"
PROTECTED = "/etc/apt/apt.conf.d/70clawd-packages"
"""The configuration of apt that names the packages which components want."""


def installed(
    *names: str, component: str | None = None, archive: str | None = None, **arguments: Any
) -> OperationMeta:
    """Install these packages, each `NAME` or `NAME=VERSION`, without recommended ones.

    Waits for cloud-init and for other programs that use apt, finishes an interrupted installation, and reads
    the mirrors' index only when a package is missing and the index is a day old or insufficient. Fails rather
    than remove a package that no component brought. With `component` they are recorded, with all their
    dependencies, as brought by it, for `removed`; also what a failed installation unpacked. `archive` is a
    .deb file of the host from which the only package of `names` is installed. `host.data.apt_options` are
    further arguments of apt-get, such as a proxy for a host without internet.
    """
    arguments.setdefault("name", f"Packages {' '.join(names)}")
    return _installed(tuple(names), component, archive, **arguments)


def removed(
    component: str,
    *,
    keep_configuration: bool = False,
    folders: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    **arguments: Any,
) -> OperationMeta:
    """Remove the packages that `component` brought and nothing else needs.

    A package stays when another component wants it, when it is marked as manual, or when a package that was
    installed later depends on it or recommends it.

    The packages are purged: their configuration in /etc is deleted, and with some of Debian's (PostgreSQL)
    their data. With `keep_configuration` they are only removed, and so are those of which only configuration
    was there before.

    A purge deletes whole `folders` in /etc (nginx), including files that somebody else added: these are set
    aside, and put back afterwards. The plan names them. Each folder has patterns of paths in it that the
    packages and their programs generate. `ANY` stands for all folders directly in /etc that belong only to
    these packages.
    """
    arguments.setdefault("name", f"No packages of {component}")
    return _removed(component, keep_configuration, dict(folders), **arguments)


class WantedFact(Fact):
    """The packages that a component wants, as recorded."""

    def command(self, component: str) -> str:
        """Return a script that prints one name per line."""
        record = assignments(record=f"{RECORDS}/{component}")
        return f"{record}sed -n 's/^wants //p' \"$record\" 2>/dev/null || true"

    @staticmethod
    def default() -> frozenset[str]:
        """Return nothing."""
        return frozenset()

    def process(self, output: list[str]) -> frozenset[str]:
        """Return the names."""
        return frozenset(filter(None, output))


class BroughtFact(Fact):
    """The packages that would be removed with a component; `None` when it has no record."""

    def command(self, component: str) -> str:
        """Return a script that prints `recorded`, and one name per line."""
        return assignments(records=RECORDS, component=component) + OWN + _BROUGHT

    def process(self, output: list[str]) -> frozenset[str] | None:
        """Return the names."""
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
    if missing:
        yield Settled()
    yield script(
        _INSTALL,
        packages=archive if archive and missing else " ".join(missing),
        options=host.data.get("apt_options") or "",
        record=f"{RECORDS}/{component}" if component else "",
        wanted=" ".join(bare),
        protected=PROTECTED,
        **originals.values((component or "").partition("-")[0]),
    )


@operation
def _removed(
    component: str, keep_configuration: bool, folders: Mapping[str, tuple[str, ...]]
) -> Iterator[StringCommand]:
    brought: frozenset[str] | None = host.get_fact(BroughtFact, component=component)
    if brought is None:
        return
    names = " ".join(sorted(brought))
    given = "\n".join("\t".join((folder, *generated)) for folder, generated in folders.items())
    found = Added()
    if names and given and not keep_configuration:
        found = host.get_fact(AddedFact, component=component, packages=names, folders=given)
    if found.obstacles:
        why = "; ".join(found.obstacles)
        raise HostError(f"{host.name}: the packages are not removed: {why}", advice=OBSTACLE)
    change = (f"remove {names}",) if names else (f"forget what {component} needed",)
    record(Change("packages", (*change, *originals.staying(found.files))))
    if names:
        yield Settled()
    yield script(
        _REMOVE,
        packages=names,
        record=f"{RECORDS}/{component}",
        purge="" if keep_configuration else "yes",
        protected=PROTECTED,
        folders=given,
        **added.values(component),
    )


# Foreign architectures keep their suffix. dpkg(1) describes the log under --status-fd: `processing: install:
# NAME` before a new package is unpacked, `remove` and `purge` before one is removed.
OWN = r"""
native=$(dpkg --print-architecture 2>/dev/null)
lines() { sed -n "s/^$1 //p" "$2" 2>/dev/null; }
there() {  # there: the names of the packages that are there, were it only in part
    dpkg-query -W -f='${Package} ${db:Status-Status}\n' |
        sed -En 's/ (installed|unpacked|half-.*|triggers-.*)$//p' | sort -u
}
logged() {  # logged RECORD: what its installations that are not yet noted have installed
    [ ! -f "$1.log" ] || awk -v native=":$native" -F ': ' '
        $1 != "processing" { next }
        { name = $3; start = length(name) - length(native) + 1
          if (start > 1 && substr(name, start) == native) name = substr(name, 1, start - 1) }
        $2 == "install" { came[name] = 1 }
        $2 == "remove" || $2 == "purge" { delete came[name] }
        END { for (name in came) print name }' "$1.log"
}
brought() { { lines brought "$1"; logged "$1"; } | sort -u; }  # brought RECORD
records() {  # records FOLDER: those in it, a path a line
    for file in "$1"/*; do
        case $file in *.log|*.new|*.before|*.added) continue ;; esac
        [ ! -f "$file" ] || echo "$file"
    done
}
protect() {  # protect: have apt keep what the components want
    wants=$(records "${record%/*}" | while read -r file; do lines wants "$file"; done | sort -u)
    [ "$wants" ] || { rm -f "$protected"; return; }
    {
        echo "// Written by clawd-provision: apt autoremove keeps what its components want."
        echo "APT::NeverAutoRemove {"
        printf '%s\n' "$wants" | sed 's/[.+]/\\&/g; s/.*/  "^&$";/'
        echo "};"
    } > "$protected.new" && chmod 0644 "$protected.new"
    if cmp -s "$protected.new" "$protected"; then rm -f "$protected.new"
    else mv -f "$protected.new" "$protected"; fi
}
"""

# `$packages`, `$wanted` and `$options` are lists of words, so they are not quoted.
INSTALLING = (
    APT
    + OWN
    + originals.KEEP
    + r"""
install() { apt install --no-install-recommends --allow-downgrades "$@" -- $packages; }
begin() {  # begin: note what is there, and first what an installation that was cut off brought
    [ "$record" ] || return 0
    mkdir -p "${record%/*}"
    earlier || (umask 077; first) || return
    rm -f "$record.before"  # of earlier versions: it does not show whose packages came
    [ ! -f "$record.log" ] || finish ""
    {
        [ ! -f "$record" ] || cat "$record"
        grep -qs '^there ' "$record" || there | sed 's/^/there /'
        dpkg-query -W -f='${Package} ${db:Status-Status}\n' | sed -n 's/^\(.*\) config-files$/residual \1/p'
    } | grep . | sort -u > "$record.new" && mv -f "$record.new" "$record"
}
finish() {  # finish WANTED: note what installations have brought, and what is wanted now that it is there
    [ "$record" ] || return 0
    all=$(brought "$record" | grep -xF -e "$(there)")
    new=$(printf '%s\n' "$all" | grep -vxF -e "$(lines marked "$record")")
    {
        [ ! -f "$record" ] || sed '/^brought /d' "$record"
        [ ! "$1" ] || printf 'wants %s\n' $1
        [ ! "$all" ] || printf 'brought %s\n' $all
    } | sort -u > "$record.new" && mv -f "$record.new" "$record" || return
    protect
    # apt marks dependencies itself, but not if it is killed, and forgets the mark of what is not whole.
    [ ! "$new$automatic" ] || apt-mark auto $new $automatic >/dev/null
    whole=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' | sed -n 's/ installed$//p')
    {
        grep -v '^marked ' "$record"
        { lines marked "$record"; [ ! "$new" ] || apt-mark showauto $new; } |
            grep -xF -e "$all" | grep -xF -e "$whole" | sed 's/^/marked /'
    } | sort -u > "$record.new" && mv -f "$record.new" "$record" && rm -f "$record.log"
}
harmless() {  # harmless: whether nothing goes for it but what components brought
    [ "$record" ] || return 0
    going=$(apt -s install --no-install-recommends --allow-downgrades -- $packages |
        sed -n 's/^Remv \([^ ]*\).*/\1/p' | sort -u)
    [ "$going" ] || return 0
    foreign=$(printf '%s\n' "$going" | grep -vxF -e "$(
        records "${record%/*}" | while read -r file; do brought "$file"; done)")
    [ "$foreign" ] || return 0
    echo "installing $packages would remove" $foreign >&2
    echo "hint: clawd-provision did not install these; remove them yourself if you can do without them" >&2
    return 1
}
automatic=
"""
)

# Everything is downloaded first: only a failed download is a reason to retry with a fresh index.
_INSTALL = (
    INSTALLING
    + r"""
begin || exit 1
[ "$packages" ] || { finish "$wanted"; exit; }
automatic=$(apt-mark showauto $wanted 2>/dev/null)
logger=
[ ! "$record" ] || logger="-o Dpkg::Options::=--status-logger=cat>>$record.log"
recent=$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -1440 2>/dev/null | head -n 1)
if { [ "$recent" ] && install --download-only; } || { apt update && install --download-only; }; then
    if harmless && install $logger; then finish "$wanted"; exit; fi
fi
finish ""
exit 1
"""
)

# Candidates are packages that only this component brought and wants, and that are not marked as manual. Of
# these, a package stays when another one could not stay without it, together with its own dependencies; and
# when a package that was installed later recommends it. Earlier packages worked without it.
_BROUGHT = r"""
cd "$records" 2>/dev/null || exit 0
[ -f "$component" ] || [ -f "$component.log" ] || exit 0
echo recorded
others=$(records . | grep -vxF "./$component" | while read -r file; do lines wants "$file"; done)
theirs=$(apt-mark showmanual 2>/dev/null)
if grep -q '^there ' "$component" 2>/dev/null; then
    theirs=$(printf '%s\n' "$theirs" | grep -xF -e "$(lines marked "$component")")
else
    # Of an earlier version, which marked nothing.
    theirs=$(printf '%s\n' "$theirs" | grep -vxF -e "$(lines wants "$component")")
fi
going=$(brought "$component" | while read -r name; do
    printf '%s\n' "$others" "$theirs" | grep -qxF -e "$name" && continue
    state=$(dpkg-query -W -f='${db:Status-Status}\n' "$name" 2>/dev/null | head -n 1)
    case $state in installed|config-files|half-*|unpacked|triggers-*) echo "$name" ;; esac
done)
recommended() {  # recommended: those of $going that packages which came later recommend for lack of others
    came=$(there | grep -vxF -e "$(lines there "$component")" |
        grep -vxF -e "$(records . | while read -r file; do brought "$file"; done)")
    [ "$came" ] || return 0
    {
        printf '%s\n' "$going" | sed 's/^/G|/'
        dpkg-query -W -f='I|${Package}|${Provides}|${db:Status-Status}\n' | sed -n 's/|installed$//p'
        dpkg-query -W -f='R|${Package}|${Recommends}\n' $came 2>/dev/null
    } | awk '
        function bare(text) { gsub(/\(.*\)|:.*|[ \t]/, "", text); return text }
        { kind = substr($0, 1, 1); rest = substr($0, 3) }
        kind == "G" { going[rest] = 1; next }
        {
            cut = index(rest, "|"); name = substr(rest, 1, cut - 1); rest = substr(rest, cut + 1)
            count = split(rest, groups, ",")
        }
        kind == "I" {
            gives[name] = gives[name] " " name
            for (i = 1; i <= count; i++) gives[bare(groups[i])] = gives[bare(groups[i])] " " name
        }
        kind == "R" {
            for (i = 1; i <= count; i++) {
                stays = 0; only = ""
                alternatives = split(groups[i], words, "|")
                for (j = 1; j <= alternatives; j++) {
                    having = split(gives[bare(words[j])], names, " ")
                    for (k = 1; k <= having; k++)
                        if (names[k] in going) only = only names[k] "\n"; else stays = 1
                }
                if (!stays) printf "%s", only
            }
        }' | sort -u
}
[ ! "$going" ] || going=$(printf '%s\n' "$going" | grep -vxF -e "$(recommended)")
# Another package may have to come in the place of one that goes: then that is needed as well.
taken() { apt-get -s -q remove -- $1 2>/dev/null | sed -En 's/^(Remv|Inst) ([^ ]*).*/\2/p' | sort -u; }
beyond() { taken "$*" | grep -vxF -e "$going" | grep -q .; }
# Of many packages few are needed: those are bisected instead of asking apt for each.
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

_REMOVE = (
    "options=\n"
    + APT
    + OWN
    + originals.KEEP
    + SET_ASIDE
    + r"""
fileless() {
    systemctl list-units --all --plain --no-legend 2>/dev/null |
        sed -n 's/^\([^ ]*\) *not-found active .*/\1/p' | sort
}
# Between the plan and now somebody may have installed what needs one of them.
harmless() {
    more=$(apt -s remove -- $packages | sed -En 's/^(Remv|Inst) ([^ ]*).*/\2/p' | sort -u |
        grep -vxF -e "$(printf '%s\n' $packages)")
    [ "$more" ] || return 0
    echo "removing $packages would also change" $more >&2
    echo "hint: check the plan again: packages that need them were installed in the meantime" >&2
    return 1
}
left() {  # left: those whose configuration is still there, and was not before they were installed
    dpkg-query -W -f='${Package} ${db:Status-Status}\n' $packages 2>/dev/null |
        sed -n 's/ config-files$//p' | grep -vxF -e "$(lines residual "$record")"
}
before=$(fileless)
# What a run that was cut off has set aside.
bring_back || exit 1
if [ "$packages" ]; then
    harmless || exit 1
    [ ! "$purge" ] || { unhindered && set_aside; } || exit 1
    apt remove -- $packages || { bring_back; exit 1; }
    names=$(left)
    purged=yes
    [ ! "$purge" ] || [ ! "$names" ] || apt purge -- $names || purged=
    bring_back && [ "$purged" ] || exit 1
fi
# A unit whose file went is ended as well. Systemd no longer knows how that would have done it, and need not:
# nftables would take the rules of other programs along.
systemctl daemon-reload 2>/dev/null
fileless | grep -vxF -e "$before" | xargs -r systemctl stop
# And one that had failed is listed as such although its file is gone.
systemctl list-units --all --state=failed --plain --no-legend 2>/dev/null |
    sed -n 's/^\([^ ]*\) *not-found .*/\1/p' | xargs -r systemctl reset-failed
# What stays for the sake of others is theirs from now on.
brought "$record" | grep -vxF -e "$(printf '%s\n' $packages)" | while read -r name; do
    records "${record%/*}" | grep -vxF "$record" |
        while read -r other; do echo "brought $name" >> "$other"; done
done
rm -f "$record" "$record.log" "$record.before" "$record.added.new"
[ ! -d "${record%/*}" ] || protect
"""
)
