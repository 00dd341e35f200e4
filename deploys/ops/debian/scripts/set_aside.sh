# shellcheck shell=sh

. deploys/ops/debian/scripts/added.sh
: "${record?}" "${stage?}"
unhindered() {  # unhindered: whether added files can be kept over a purge
    why=$(obstacles)
    [ "$why" ] || return 0
    printf '%s\n' "$why" | sed 's/^/the packages are not removed: /' >&2
    echo "hint: unmount or rename it, and run again" >&2
    return 1
}
set_aside() {  # set_aside: archive added files, with their parent folders
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
settle() {  # settle FROM TO: move files to the folder TO that are missing there, in a separate shell
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
bring_back() {  # bring_back: restore archived files that are missing; existing ones are newer
    rm -rf "$stage" || return
    [ -f "$record.added" ] || return 0
    # On the file system of /etc, so that each file is moved atomically.
    mkdir -m 0700 "$stage" && tar -C "$stage" -xpf "$record.added" && sync -f "$stage" || return
    (settle "$stage$etc" "$etc") || return
    rm -rf "$stage" && sync -f "$etc" && rm -f "$record.added"
}
