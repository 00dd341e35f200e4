# shellcheck shell=sh
# A copy is complete before the path is noted, and the path is noted before anything is replaced: after an
# interruption at any point the path still has the original, or its copy is kept. Files that a package brought
# are younger than its installation; files that it found, such as manual settings, are older. A file without a
# package counts as of the package of its folder, if there is one.

. deploys/ops/paths/scripts/keeper.sh
: "${originals?}" "${components?}" "${etc?}" "${names?}" "${unmarked?}" "${package_records?}" "${whose?}"
mine="$originals/$whose"
earlier() {  # earlier: whether a version without originals has set up the component
    [ -e "$mine/earlier" ] || { [ ! -d "$mine" ] && grep -qsxF -e "$whose" "$components"; }
}
like() {  # like TEXT PATTERNS: whether one of the patterns (one per line) matches
    while IFS= read -r pattern; do
        # shellcheck disable=SC2254  # a pattern
        case $1 in $pattern) return 0 ;; esac
    done <<LIKE
$2
LIKE
    return 1
}
named() {  # named PATH: whether the name is one of this program; outside /etc, its last part
    case $1 in "$etc"/*) like "${1#"$etc"/}" "$names"; return ;; esac
    case ${1##*/} in clawd|clawd[-_.]*) ;; *) return 1 ;; esac
}
wrote() {  # wrote PATH: whether an earlier version without records wrote it
    earlier || return 1
    ! named "$1" && ! like "$1" "$unmarked" || return 0
    [ -f "$1" ] && [ ! -L "$1" ] && head -c 4096 -- "$1" | grep -aqF 'Written by clawd-provision'
}
noted() { cat "$originals"/*/ours 2>/dev/null; }
ours() { noted | grep -qxF -e "$1" || wrote "$1"; }
without() {  # without LINES: print the lines of standard input that are not in LINES
    # A function's argument may be longer than a program's.
    { printf '%s\n' "$1" | sed 's/^/-/'; sed 's/^/+/'; } |
        awk '{ line = substr($0, 2) } /^-/ { known[line]; next } !(line in known) { print line }'
}
packaged() {  # packaged: print the paths of standard input that belong to a package
    xargs -r -d '\n' dpkg-query -S 2>/dev/null | grep -v -e '^diversion by' -e '^local diversion' |
        sed -n 's|^[^/]*: /|/|p'
}
package_of() {  # package_of PATH: print its packages, as dpkg -S does: `ONE, TWO:ARCH: PATH`
    dpkg-query -S "$1" 2>/dev/null | grep -v '^diversion by' | sed -n 's/^\([^/]*\): .*/\1/p' |
        tr -d ' ' | tr , '\n' | sed 's/:.*//'
}
foreign() {  # foreign PATH: whether it belongs neither to a component nor to a package of one
    place=$1
    while [ "$place" != / ] && [ "$place" != /etc ]; do
        packaged=$(package_of "$place")
        [ ! "$packaged" ] || break
        place=$(dirname "$place")
    done
    [ "$packaged" ] || return 0
    for name in $packaged; do
        file=$(grep -lsxF -e "brought $name" "$package_records"/* | head -n 1)
        [ "$file" ] || return 0
    done
    ! earlier && older "$1"
}
orphaned() {  # orphaned PATH: whether a folder above it belongs to a deleted account
    for way in "$(dirname "$1")" "$(readlink -m -- "$(dirname "$1")")"; do
        while [ "$way" != / ] && [ "$way" != . ]; do
            [ "$(stat -c %U -- "$way" 2>/dev/null)" != UNKNOWN ] || return 0
            way=$(dirname -- "$way")
        done
    done
    return 1
}
copied() { [ -e "$mine/files$1" ] || [ -L "$mine/files$1" ]; }
original() {  # original PATH: print `kept`, `ours`, `foreign`, or nothing if none of these is known
    [ "$whose" ] || return 0
    if [ -d "$1" ] && [ ! -L "$1" ]; then
        # After the removal of the component nothing in there belongs to it.
        if [ ! -d "$mine" ] && ! earlier; then echo foreign
        elif careful "$1" && [ ! "$(going "$1")" ]; then echo foreign
        fi
    elif ours "$1"; then if copied "$1"; then echo kept; else echo ours; fi
    elif { [ -e "$1" ] || [ -L "$1" ]; } && foreign "$1"; then echo foreign
    fi
}
careful() {  # careful PATH: whether it is a folder in which only files of the component may be removed
    case $1 in "$etc"/*) [ "$whose" ] && [ -d "$1" ] && [ ! -L "$1" ] ;; *) false ;; esac
}
shared() {  # shared PATH: whether a package still contains the folder, or it is for drop-ins
    case $1 in "$etc"/systemd/system/*.d) return 0 ;; esac
    for name in $(package_of "$1"); do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" != installed ] || return 0
    done
    return 1
}
made() { like "${2#"$1"/}" "${generated-}"; }  # made FOLDER FILE: whether it matches a declared pattern of generated files
younger() { earlier || ! older "$1"; }
going() {  # going PATH: print `kept FILE`, `ours FILE` or `other FILE` for each file to remove from a folder, or `empty`
    [ "$(find "$1" -xdev ! -type d | head -n 1)" ] || { echo empty; return 0; }
    alone=
    shared "$1" || alone=yes
    find "$1" -xdev ! -type d | while IFS= read -r file; do
        if ours "$file"; then
            if copied "$file"; then echo "kept $file"; else echo "ours $file"; fi
        elif { named "$file" || { [ "$alone" ] && made "$1" "$file"; }; } && younger "$file"; then
            echo "other $file"
        fi
    done
}
copied_to() {  # copied_to PATH COPY: copy it; in a folder of another user with the rights of that user
    user_of=$(keeper "$(dirname "$1")") || return
    if [ ! "$user_of" ]; then cp -a -- "$1" "$2"
    elif [ -L "$1" ]; then
        leads_to=$(as_keeper "$user_of" readlink -- "$1") || return
        ln -s "$leads_to" "$2"
    else
        as_keeper "$user_of" cat -- "$1" > "$2" || return
        chown "$user_of:$(stat -c %G -- "$1")" "$2" || return
        chmod "$(stat -c %a -- "$1")" "$2"
    fi
}
first() {  # first: record the time of the component's first change
    if earlier; then
        # shellcheck disable=SC2174  # the folders above may be read
        mkdir -p -m 0700 "$mine" || return
        : > "$mine/earlier"
        return
    fi
    # shellcheck disable=SC2174  # the folders above may be read
    mkdir -p -m 0700 "$mine" || return
    [ -s "$mine/since" ] || date +%s > "$mine/since"
}
keep() {  # keep PATH: copy it before it is replaced for the first time
    [ "$whose" ] || return 0
    ! ours "$1" || return 0
    (
        umask 077
        first || exit
        if { [ -e "$1" ] || [ -L "$1" ]; } && foreign "$1"; then
            copy="$mine/files$1"
            mkdir -p "${copy%/*}" && rm -rf "$copy.new" || exit
            copied_to "$1" "$copy.new" || exit
            sync "$copy.new" 2>/dev/null || true
            mv -T "$copy.new" "$copy" || exit
        fi
        printf '%s\n' "$1" >> "$mine/ours"
    )
}
keep_folder() {  # keep_folder PATH: record owner and mode of a folder before their first change
    [ "$whose" ] && [ -d "$1" ] && ! earlier && foreign "$1" || return 0
    (umask 077; first) || return
    cut -d ' ' -f 4- "$mine/folders" 2>/dev/null | grep -qxF -e "$1" ||
        stat -c '%a %u %g %n' "$1" >> "$mine/folders"
}
# Under a condition `set -e` is off: each command of these returns where it fails.
put_back() {  # put_back PATH: restore the kept original
    user_of=$(keeper "$(dirname "$1")") || return
    if [ "$user_of" ] && [ -L "$mine/files$1" ]; then
        leads_to=$(readlink "$mine/files$1") || return
        as_keeper "$user_of" ln -sfn -- "$leads_to" "$1"
        return
    elif [ "$user_of" ]; then
        group_of=$(stat -c %G "$mine/files$1") && mode_of=$(stat -c %a "$mine/files$1") || return
        as_keeper "$user_of" sh -c "$place" sh "$1" "$group_of" "$mode_of" < "$mine/files$1"
        return
    fi
    mkdir -p "${1%/*}" && rm -rf "$1.clawd-back" || return
    cp -a -- "$mine/files$1" "$1.clawd-back" || return
    sync "$1.clawd-back" 2>/dev/null || true
    [ ! -d "$1" ] || [ -L "$1" ] || rm -rf "$1" || return
    mv -fT "$1.clawd-back" "$1"
}
forget() {  # forget PATH: delete its record, because the original is there again
    if [ -f "$mine/ours" ]; then
        grep -vxF -e "$1" "$mine/ours" > "$mine/ours.new" || [ $? = 1 ] || return
        mv -f "$mine/ours.new" "$mine/ours" || return
    fi
    rm -rf "$mine/files$1"
}
older() {  # older PATH: whether it existed before the component
    [ -s "$mine/since" ] || return 0
    born=$(stat -c %W "$1" 2>/dev/null)
    [ "${born:-0}" -gt 0 ] 2>/dev/null || born=$(stat -c %Z "$1")
    [ "$born" -lt "$(cat "$mine/since")" ]
}
