# shellcheck shell=sh

: "${note?}" "${lines?}"
set -eu
umask 077
mkdir -p "${note%/*}"
{ cat "$note" 2>/dev/null || true; printf '%s\n' "$lines"; } > "$note.new"
mv -f "$note.new" "$note"
