# shellcheck shell=sh

. deploys/disk/scripts/folders.sh
: "${folder?}" "${target?}" "${unit?}"
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
