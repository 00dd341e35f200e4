# shellcheck shell=sh
# The kernel refuses to open a block device exclusively (open(2), O_EXCL) that is mounted anywhere, also by
# another name or in a container, that is swap, or that is part of a volume. Nothing is opened for writing.

: "${fstab?}"
taken() {  # taken DEVICE: whether it is in use, or will be at boot
    python3 -I -c 'import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL)' "$1" 2>/dev/null || return 0
    listed "$1"
}
listed() {  # listed DEVICE: whether fstab contains it, under any of its names
    findmnt --fstab --tab-file "$fstab" -rn -e -o SOURCE 2>/dev/null | while IFS= read -r source; do
        [ "$(readlink -f -- "$source")" != "$(readlink -f -- "$1")" ] || echo listed
    done | grep -q .
}
