# shellcheck shell=sh

. deploys/disk/scripts/mounted_uuid.sh
: "${path?}" "${unit?}"
if mountpoint -q "$path"; then echo mounted=yes; printf 'uuid=%s\n' "$(uuid_of "$path")"; fi
printf 'enabled=%s\n' "$(systemctl is-enabled "$unit" 2>/dev/null)"
systemctl show -p NeedDaemonReload "$unit" 2>/dev/null || true
