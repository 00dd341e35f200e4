# shellcheck shell=sh

. deploys/ops/debian/scripts/added.sh
obstacles | sed 's/^/obstacle /'
files=$(added | without "$(noted)" | while IFS= read -r file; do wrote "$file" || printf '%s\n' "$file"; done)
[ ! "$files" ] || printf '%s\n' "$files" | without "$(printf '%s\n' "$files" | packaged)" | sed 's/^/file /'
