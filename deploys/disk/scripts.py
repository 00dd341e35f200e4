"""The shell scripts of the data disk; `deploys.disk.operations` documents them."""

from __future__ import annotations

_SAME = r"""
export LC_ALL=C
same() {  # same A B: both are the same folder
    [ -d "$1" ] && [ -d "$2" ] && [ "$(stat -c %d:%i "$1")" = "$(stat -c %d:%i "$2")" ]
}
filled() { [ -d "$1" ] && [ -n "$(find "$1" -mindepth 1 ! -type d -print -quit)" ]; }
"""

# By the device and not by findmnt's UUID: that comes from udev, which may not know it yet, or not run.
_MOUNTED_UUID = r"""
uuid_of() {
    source=$(findmnt -n -o SOURCE --mountpoint "$1" | sed 's/\[.*//')
    blkid -p -s UUID -o value "$source" 2>/dev/null
}
"""

UNIT_STATE = (
    _MOUNTED_UUID
    + r"""
if mountpoint -q "$path"; then echo mounted=yes; printf 'uuid=%s\n' "$(uuid_of "$path")"; fi
printf 'enabled=%s\n' "$(systemctl is-enabled "$unit" 2>/dev/null)"
systemctl show -p NeedDaemonReload "$unit" 2>/dev/null || true
"""
)

PLACE_STATE = (
    _SAME
    + r"""
yes() { name=$1; shift; if "$@"; then echo "$name=yes"; else echo "$name=no"; fi; }
yes shown same "$folder" "$target"
yes filled filled "$folder"
yes on_disk [ -d "$target" ]
yes aside [ -e "$folder.before-disk" ]
other() { [ -L "$folder" ] || { mountpoint -q "$folder" && ! same "$folder" "$target"; }; }
yes foreign other
yes enabled [ "$(systemctl is-enabled "$unit" 2>/dev/null)" = enabled ]
yes stale [ "$(systemctl show -P NeedDaemonReload "$unit" 2>/dev/null)" = yes ]
echo "size=$(du -sb "$folder" 2>/dev/null | cut -f 1)"
"""
)

UNITS_OF_OURS = r"""
for file in "$units"/*.mount; do
    grep -qs '^Component=disk$' "$file" || continue
    of() { sed -n "s/^$1=//p" "$file" | head -n 1; }
    users=
    for user in $(of Users); do
        [ "$(systemctl show -P LoadState "$user" 2>/dev/null)" = not-found ] || users="$users $user"
    done
    printf '%s|%s|%s|%s\n' "${file##*/}" "$(of Where)" "$(of What)" "$users"
done
"""

# The name of the partition is the progress: until the file system is complete it is `$begun`. Only such a
# partition, which was created here and never mounted, is ever formatted again.
FORMAT = r"""
set -eu
export LC_ALL=C
refuse() { echo "$disk is not touched: $1" >&2; exit 1; }
blank() {
    found=$(wipefs --no-act --noheadings "$1") || refuse "it cannot be read"
    [ ! "$found" ] || refuse "it has $found"
    probed=0; blkid -p "$1" >/dev/null || probed=$?
    [ "$probed" = 2 ] || refuse "blkid finds something on it"
    [ "$(head -c 1048576 "$1" | wc -c)" = 1048576 ] || refuse "it cannot be read"
    [ "$(head -c 1048576 "$1" | tr -d '\0' | head -c 1 | wc -c)" = 0 ] || refuse "its first MiB has data"
}
unused() {
    [ ! "$(lsblk --noheadings --output MOUNTPOINTS "$1" | tr -d ' \n')" ] || refuse "it is in use"
    [ ! "$(ls "/sys/class/block/${1##*/}/holders")" ] || refuse "something is built on it"
}
partition() {  # its device, when the kernel knows it
    lsblk --noheadings --raw --output PATH,TYPE "$disk" | sed -n 's/ part$//p'
}
unused "$disk"
if [ "$state" = blank ]; then
    blank "$disk"
    [ ! "$(partition)" ] || refuse "it has partitions"
    printf 'label: gpt\ntype=linux, name=%s\n' "$begun" | sfdisk --quiet --wipe never "$disk"
fi
# Where nothing else has told the kernel of the partition.
partx --update "$disk" 2>/dev/null || true
if command -v udevadm >/dev/null; then udevadm settle --timeout 30 || true; fi
seconds=0
until part=$(partition) && [ "$part" ] && [ -b "$part" ]; do
    seconds=$((seconds + 1))
    [ "$seconds" -le 30 ] || refuse "its partition does not appear"
    sleep 1
done
[ "$(blkid -p -s PART_ENTRY_NAME -o value "$part")" = "$begun" ] || refuse "$part is not the one begun here"
unused "$part"
wipefs --all --quiet "$part"
case $filesystem in
    ext4) mkfs.ext4 -q -m 1 -L "$label" -U "$uuid" "$part" </dev/null ;;
    xfs) mkfs.xfs -q -L "$label" -m "uuid=$uuid" "$part" ;;
esac
sync "$part"
sfdisk --quiet --no-reread --no-tell-kernel --part-label "$disk" 1 "$label" </dev/null
partx --update "$disk" 2>/dev/null || true
if command -v udevadm >/dev/null; then udevadm trigger --settle "$part" 2>/dev/null || true; fi
"""

MOUNT = (
    _SAME
    + _MOUNTED_UUID
    + r"""
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
"""
)

# In this order, so that when it is killed, one complete and known copy is left:
#   copied to `$target.incoming`; unit enabled (from here on its users do not start without the disk); old
#   folder renamed aside (from here on the copy counts); copy renamed to `$target`; mounted; old one removed.
PLACE = (
    _SAME
    + r"""
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
    # Nobody writes into what is below the mount when the disk is away.
    [ -d "$folder" ] || { mkdir -p "${folder%/*}" && mkdir -m 0000 "$folder"; }
    systemctl reset-failed "$unit" 2>/dev/null || true
    systemctl start "$unit" || { journalctl --no-pager --quiet --lines 5 --unit "$unit" >&2; exit 1; }
    same "$folder" "$target" || fail "$folder is not mounted after its unit has started"
fi
rm -rf -- "$aside"
"""
)

RELEASE = (
    _SAME
    + r"""
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
"""
)
