"""Files that somebody else added to folders in /etc of packages: named in the plan, and kept over a purge.

A purge removes such folders whole. What was added is in an archive next to the component's record from before
the purge until it is in place again. A run that is interrupted leaves the archive to the next one.
"""

from __future__ import annotations

from dataclasses import dataclass

from deploys.ops.facts import Fact
from deploys.ops.paths import originals
from deploys.ops.shell import assignments

MOUNTS = "/proc/self/mountinfo"
"""What is mounted, a line each; see proc(5)."""


@dataclass(frozen=True, slots=True)
class Added:
    """The `files` that somebody else added; `obstacles` are reasons why they cannot be kept, for a user."""

    files: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()


class AddedFact(Fact):
    """Return what somebody else added to folders of packages; `folders` as `added` reads them."""

    def command(self, component: str, packages: str, folders: str) -> str:
        """Return a script that prints `file` or `obstacle`, and a path or a reason a line."""
        asked = assignments(**values(component), packages=packages, folders=folders)
        return asked + originals.KEEP + ADDED + _ADDED

    @staticmethod
    def default() -> Added:
        """Return that there is none."""
        return Added()

    def process(self, output: list[str]) -> Added:
        """Turn the script's lines into `Added`."""
        rows = [line.partition(" ")[::2] for line in output if line]
        files, obstacles = (
            tuple(sorted(text for kind, text in rows if kind == wanted)) for wanted in ("file", "obstacle")
        )
        return Added(files, obstacles)


def values(component: str) -> dict[str, str]:
    """Return the shell variables that `ADDED` and `SET_ASIDE` read, but for the record of the packages."""
    owner = component.partition("-")[0]
    stage = f"{originals.ETC}/.clawd-added-{component}"
    return {**originals.values(owner), "mounts": MOUNTS, "stage": stage}


# A file with a line break in its name would be two in a list; what is mounted in a folder is not looked at,
# and a purge goes through it.
ADDED = r"""
known=$(dpkg-query -L $packages 2>/dev/null | grep -e "^$etc/")
own() {  # own: the folders right in /etc that $packages alone have, but those that programs fill for all
    printf '%s\n' "$known" | grep -x -e "$etc/[^/]*" | while IFS= read -r folder; do
        case $folder in "$etc/ssl"|"$etc/apparmor.d") continue ;; esac
        [ -d "$folder" ] || continue
        package_of "$folder" | grep -qvxF -e "$(printf '%s\n' $packages)" || printf '%s\n' "$folder"
    done
}
declared() {  # declared: a line `FOLDER<TAB>PATTERN...` for each of $folders that is there
    { if [ "$folders" = '*' ]; then own; else printf '%s\n' "$folders"; fi; } | while IFS= read -r line; do
        folder=${line%%	*}
        [ ! -d "$folder" ] || [ -L "$folder" ] || printf '%s\n' "$line"
    done
}
obstacles() {  # obstacles: why a purge would not leave in $folders what was added
    declared | cut -f 1 | while IFS= read -r folder; do
        awk -v "folder=$folder" '$5 == folder || index($5, folder "/") == 1 {
            print "something is mounted on " $5 ", which removing the packages would empty" }' "$mounts"
        find "$folder" -xdev -name '*
*' | grep -q . && echo "a file in $folder has a line break in its name"
    done
    true
}
added() {  # added: what is in $folders and not of $packages
    noted=$(cat "$mine/ours" 2>/dev/null)
    declared | while IFS= read -r line; do
        folder=${line%%	*}
        generated=$(printf '%s' "$line" | cut -s -f 2- | tr '\t' '\n')
        there=$(find "$folder" -xdev ! -type d) || exit
        printf '%s\n' "$there" | without "$known" | without "$noted" | while IFS= read -r file; do
            case $file in ''|*.dpkg-*|*.ucf-*) continue ;; esac
            made "$folder" "$file" || wrote "$file" || { named "$file" && younger "$file"; } ||
                printf '%s\n' "$file"
        done || exit
    done
}
"""
_ADDED = r"""
obstacles | sed 's/^/obstacle /'
files=$(added | without "$(noted)" | while IFS= read -r file; do wrote "$file" || printf '%s\n' "$file"; done)
[ ! "$files" ] || printf '%s\n' "$files" | without "$(printf '%s\n' "$files" | packaged)" | sed 's/^/file /'
"""

SET_ASIDE = (
    ADDED
    + r"""
unhindered() {  # unhindered: whether nothing keeps a purge from leaving what was added
    why=$(obstacles)
    [ "$why" ] || return 0
    printf '%s\n' "$why" | sed 's/^/the packages are not removed: /' >&2
    echo "hint: unmount or rename it, and run again" >&2
    return 1
}
set_aside() {  # set_aside: keep what was added, with the folders that lead there
    found=$(added) || return
    [ "$found" ] || return 0
    ways=$(printf '%s\n' "$found" | while IFS= read -r way; do
        while [ "$way" ] && [ "$way" != "$etc" ]; do
            printf '%s\n' "${way#/}"
            way=${way%/*}
        done
    done | sort -u) || return
    (
        umask 077
        printf '%s\n' "$ways" |
            tar -C / --no-recursion --verbatim-files-from -T - -cpf "$record.added.new" || exit
        sync "$record.added.new" || exit
        mv -f "$record.added.new" "$record.added" || exit
        sync "${record%/*}"
    )
}
settle() {  # settle FROM TO: move to the folder TO what is missing there, in a shell of its own
    # Not through a link: the folder may belong to a user who replaces it by one.
    cd -P -- "$2" && [ "$(pwd -P)" = "$2" ] || { echo "$2 is a link, which is not followed" >&2; exit 1; }
    for one in "$1"/* "$1"/.[!.]* "$1"/..?*; do
        [ -e "$one" ] || [ -L "$one" ] || continue
        name=${one##*/}
        if [ ! -e "./$name" ] && [ ! -L "./$name" ]; then mv -nT -- "$one" "./$name" || exit
        elif [ ! -d "$one" ] || [ -L "$one" ]; then continue
        elif [ -d "./$name" ] && [ ! -L "./$name" ]; then (settle "$one" "$2/$name") || exit
        else
            echo "$2/$name was a folder, and is none now: what was in it is in $record.added" >&2
            echo "hint: move it away, and run again" >&2
            exit 1
        fi
    done
}
bring_back() {  # bring_back: what was set aside and is gone; what is there is newer
    rm -rf "$stage" || return
    [ -f "$record.added" ] || return 0
    # On the file system of /etc, so that each file is put in place whole.
    mkdir -m 0700 "$stage" && tar -C "$stage" -xpf "$record.added" && sync -f "$stage" || return
    (settle "$stage$etc" "$etc") || return
    rm -rf "$stage" && sync -f "$etc" && rm -f "$record.added"
}
"""
)
