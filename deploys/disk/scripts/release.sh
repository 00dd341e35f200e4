# shellcheck shell=sh

. deploys/disk/scripts/folders.sh
: "${users?}" "${folder?}" "${unit?}" "${units?}" "${source?}" "${purge?}"
set -eu
fail() { echo "$1" >&2; exit 1; }
for user in $users; do
    [ "$(systemctl show -P LoadState "$user")" = not-found ] ||
        fail "$user keeps its data in $folder: remove it from this host first, or declare the disk again"
done
if mountpoint -q "$folder"; then
    systemctl stop "$unit" || true
    ! mountpoint -q "$folder" || umount "$folder" ||
        fail "$folder is in use: end what uses it (fuser -vm $folder), or declare the disk again"
fi
systemctl disable --quiet "$unit" 2>/dev/null || true
rm -f "$units/$unit"
systemctl daemon-reload
systemctl reset-failed "$unit" 2>/dev/null || true
[ ! "$purge" ] || rm -rf -- "$source"
filled "$folder" || rmdir "$folder" 2>/dev/null || true
