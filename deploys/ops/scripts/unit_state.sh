# shellcheck shell=sh

: "${unit?}" "${stamp?}" "${watch?}"
systemctl show -p LoadState,ActiveState,UnitFileState,NeedDaemonReload "$unit" 2>/dev/null
[ ! -f "$stamp" ] || printf 'Stamp=%s\n' "$(cat "$stamp")"
printf '%s\n' "$watch" | while IFS= read -r path; do
    [ ! -f "$path" ] || printf 'Watched=%s  %s\n' "$(sha256sum < "$path" | cut -c1-64)" "$path"
done
