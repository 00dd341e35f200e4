# shellcheck shell=sh

. deploys/ops/paths/scripts/originals.sh
: "${verified?}" "${paths?}" "${units?}"
set -e
[ ! "$paths" ] || printf '%s\n' "$paths" | while IFS= read -r path; do
    if orphaned "$path"; then echo "$path is not restored: the account that owns its folder is gone" >&2
    else put_back "$path"
    fi
done
while read -r mode user group path; do
    [ ! -d "$path" ] || { chown "$user:$group" "$path"; chmod "$mode" "$path"; }
done 2>/dev/null < "$mine/folders" || true
rm -rf "$mine"
rm -f "$verified/$whose"
rmdir "$originals" "$verified" 2>/dev/null || true
# shellcheck disable=SC2086  # a list of words
[ ! "$units" ] || { systemctl daemon-reload; systemctl restart $units; }
