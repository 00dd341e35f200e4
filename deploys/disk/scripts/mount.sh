# shellcheck shell=sh

. deploys/disk/scripts/folders.sh
. deploys/disk/scripts/mounted_uuid.sh
: "${path?}" "${uuid?}" "${unit?}"
set -eu
fail() { echo "$1" >&2; exit 1; }
if mountpoint -q "$path"; then
    [ "$(uuid_of "$path")" = "$uuid" ] || fail "something else is mounted on $path: declare another folder"
else
    [ ! -L "$path" ] || fail "$path is a link: declare the folder itself"
    ! filled "$path" || fail "$path has files, which the disk would hide: declare another folder"
fi
systemctl daemon-reload
systemctl enable --quiet "$unit"
systemctl reset-failed "$unit" 2>/dev/null || true
seconds=0
until [ -e "/dev/disk/by-uuid/$uuid" ]; do
    seconds=$((seconds + 1))
    [ "$seconds" -le 30 ] || fail "the disk with UUID $uuid does not appear"
    sleep 1
done
systemctl start "$unit" || { journalctl --no-pager --quiet --lines 5 --unit "$unit" >&2; exit 1; }
[ "$(uuid_of "$path")" = "$uuid" ] || fail "$unit has started, and the disk is not on $path"
