# shellcheck shell=sh
# A disk without medium or with a bad first sector cannot be read: it does not count as empty.

: "${declared?}"
export LC_ALL=C
[ ! "$declared" ] || printf 'declared %s\n' "$(readlink -f "$declared")"
printf 'tree %s\n' "$(lsblk --json --bytes --output NAME,PATH,TYPE,SIZE,RO,RM,MOUNTPOINTS | tr -d '\n')"
lsblk --noheadings --raw --output PATH,TYPE | sort -u | while read -r path type; do
    case $type in disk|part|loop) ;; *) continue ;; esac
    [ -b "$path" ] || continue
    printf 'device %s\n' "$path"
    wipefs --no-act --noheadings --output TYPE "$path" 2>/dev/null | sed 's/^/signature /'
    blkid -p -o export "$path" 2>/dev/null | sed 's/^/tag /'
    [ "$(head -c 1048576 "$path" 2>/dev/null | wc -c)" = 1048576 ] || continue
    [ "$(head -c 1048576 "$path" | tr -d '\0' | head -c 1 | wc -c)" != 0 ] || echo empty
done
