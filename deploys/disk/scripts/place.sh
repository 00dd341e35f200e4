# shellcheck shell=sh
# In this order, so that a killed run leaves one complete and known copy:
#   copied to `$target.incoming`; unit enabled (from here on its users do not start without the disk); old
#   folder renamed aside (from here on the copy counts); copy renamed to `$target`; mounted; old one removed.

. deploys/disk/scripts/folders.sh
: "${folder?}" "${target?}" "${disk?}" "${users?}" "${unit?}"
set -eu
fail() { echo "$1" >&2; exit 1; }
aside=$folder.before-disk incoming=$target.incoming stopped=
go_on() {
    for user in $stopped; do systemctl start "$user" || echo "$user does not start again" >&2; done
}
trap go_on EXIT
trap 'exit 129' HUP INT TERM
mountpoint -q "$disk" || fail "$disk is not mounted"
[ ! -L "$folder" ] || fail "$folder is a link: replace it by what it leads to"
bring() {
    for user in $users; do
        systemctl is-active --quiet "$user" || continue
        systemctl stop "$user"
        stopped="$stopped $user"
    done
    if [ ! -e "$aside" ]; then
        rm -rf -- "$incoming"
        if [ -d "$folder" ]; then
            needed=$(du -sB1 "$folder" | cut -f 1)
            free=$(df --output=avail -B1 "$disk" | tail -n 1)
            [ "$needed" -lt "$free" ] || fail "$folder has $needed bytes, the data disk only $free free"
            cp -a -- "$folder" "$incoming"
        else
            mkdir -m 0755 "$incoming"
        fi
        sync -f "$incoming"
        systemctl daemon-reload
        systemctl enable --quiet "$unit"
        [ ! -d "$folder" ] || mv -T -- "$folder" "$aside"
    fi
    [ -d "$incoming" ] || fail "$aside is there, and its copy on the disk is not: move it back to $folder"
    mv -T -- "$incoming" "$target"
    sync -f "$target"
}
if ! same "$folder" "$target"; then
    ! mountpoint -q "$folder" || fail "something else is mounted on $folder"
    if [ ! -d "$target" ]; then
        bring
    elif filled "$folder"; then
        fail "both $folder and $target have files: move one of them away"
    fi
fi
systemctl daemon-reload
systemctl enable --quiet "$unit"
if ! same "$folder" "$target"; then
    # While the disk is missing, no program may write into the folder below the mount.
    [ -d "$folder" ] || { mkdir -p "${folder%/*}" && mkdir -m 0000 "$folder"; }
    systemctl reset-failed "$unit" 2>/dev/null || true
    systemctl start "$unit" || { journalctl --no-pager --quiet --lines 5 --unit "$unit" >&2; exit 1; }
    same "$folder" "$target" || fail "$folder is not mounted after its unit has started"
fi
rm -rf -- "$aside"
