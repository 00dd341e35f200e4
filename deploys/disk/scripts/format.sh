# shellcheck shell=sh
# The name of the partition is the progress: until the file system is complete it is `$begun`. Only such a
# partition, which was created here and never mounted, is ever formatted again.

: "${disk?}" "${state?}" "${begun?}" "${filesystem?}" "${label?}" "${uuid?}"
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
# Where nothing else has made the kernel read the partition table.
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
