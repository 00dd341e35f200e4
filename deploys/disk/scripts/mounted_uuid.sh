# shellcheck shell=sh
# By the device and not by findmnt's UUID: that comes from udev, which may not know it yet, or not run.

uuid_of() {
    source=$(findmnt -n -o SOURCE --mountpoint "$1" | sed 's/\[.*//')
    blkid -p -s UUID -o value "$source" 2>/dev/null
}
