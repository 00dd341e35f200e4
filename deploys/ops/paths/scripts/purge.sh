# shellcheck shell=sh
# A mount point cannot be removed, only emptied. A disk keeps its file system.

. deploys/ops/paths/scripts/taken.sh
: "${paths?}" "${note?}" "${users?}"
set -eu
printf '%s\n' "$paths" | while IFS= read -r path; do
    [ "$path" ] || continue
    device=${path%%:*} folder=${path#*:}
    if [ "$device" != "$path" ] && [ -b "$device" ]; then
        if taken "$device"; then
            echo "$device is in use, or in $fstab: nothing on it was deleted" >&2
            echo "hint: look at the plan again" >&2
            exit 1
        fi
        case $folder in ''|.|..|*/*) echo "$path is no folder of a disk" >&2; exit 1 ;; esac
        place=$(mktemp -d)
        mount -o nosuid,nodev,noexec "$device" "$place"
        rm -rf --one-file-system -- "${place:?}/$folder" || { umount "$place"; exit 1; }
        umount "$place"
        rmdir "$place"
    elif [ ! -L "$path" ] && mountpoint -q "$path"; then find "$path" -xdev -mindepth 1 -delete
    else
        rm -rf -- "$path"
        case $path in
            # Folders that were created for it.
            /var/lib/*/*)
                inside=${path#/var/lib/}
                (cd /var/lib && rmdir -p --ignore-fail-on-non-empty -- "${inside%/*}")
                ;;
        esac
    fi
done
rm -f "$note"
rmdir "${note%/*}" 2>/dev/null || true
for user in $users; do
    { getent passwd "$user" >/dev/null && ! pgrep -u "$user" >/dev/null; } || continue
    [ -z "$(find /var/lib -mindepth 1 -maxdepth 1 -user "$user")" ] || continue
    userdel "$user"
    ! getent group "$user" >/dev/null || groupdel "$user"
done
