# shellcheck shell=sh
# Of the lines of /proc/locks that have the file's inode, the processes that have the file open: an inode
# number is unique only within one file system. Lines with `->` are of processes that wait for the lock.

: "${locks?}"
holder() {  # holder: `PID NAME FILE` of a process that holds one of $locks, or nothing
    for lock in $locks; do
        inode=$(stat -L -c %i "$lock" 2>/dev/null) || continue
        # shellcheck disable=SC2016  # a program of awk
        held='$2 != "->" { n = split($6, at, ":"); if (at[n] == inode) print $5 }'
        # shellcheck disable=SC2013  # process ids are words
        for pid in $(awk -v inode="$inode" "$held" /proc/locks 2>/dev/null); do
            for file in "/proc/$pid/fd/"*; do
                [ "$(readlink "$file")" = "$(readlink -f "$lock")" ] || continue
                echo "$pid $(cat "/proc/$pid/comm" 2>/dev/null) $lock"
                return
            done
        done
    done
}
