# shellcheck shell=sh
# Debian's configuration and those of versions without such a file do not include it: it is checked alone.

: "${new?}" "${upstreams?}" "${config?}"
set -e
whole=$(mktemp)
trap 'rm -f "$whole"' EXIT
if grep -qF "include $upstreams;" "$config"; then sed "s#$upstreams#$new#" "$config" > "$whole"
else printf 'events { }\nhttp { include %s; }\n' "$new" > "$whole"
fi
nginx -t -q -c "$whole"
